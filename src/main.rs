// SPDX-License-Identifier: Apache-2.0
//! The `berth` program: arguments to a command, and the one place where an error becomes text, a log line and an exit status.

#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use berth::cli::args::{self, Parsed};
use berth::cli::log::Log;
use berth::cli::{request, verbs};
use berth::error::{Error, Kind};

fn main() -> ExitCode {
    let mut words = std::env::args_os();
    let called = words.next().unwrap_or_default().to_string_lossy().into_owned();
    let program = called.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("berth").to_string();
    let words: Vec<String> = match words.map(text).collect() {
        Ok(words) => words,
        Err(error) => return failed(&Log::default(), &error, "", 1),
    };
    let invocation = match args::parse(&program, words) {
        Ok(Parsed::Run(invocation)) => invocation,
        Ok(Parsed::Print(text)) => {
            // A reader that has gone does not want the rest.
            let _ = std::io::stdout().write_all(text.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(error) => return failed(&Log::default(), &error, "", 1),
    };
    let log = match request::log(&invocation.global) {
        Ok(log) => log,
        Err(error) => return failed(&Log::default(), &error, "", 1),
    };
    match verbs::run(&program, &invocation, &log) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            // As runc begins these messages, without its name.
            let (prefix, status) = match invocation.verb.name {
                "create" => ("create failed: ", 1),
                "run" => ("run failed: ", 1),
                "exec" => ("exec failed: ", 255),
                _ => ("", 1),
            };
            failed(&log, &error, prefix, status)
        }
    }
}

/// Paths, ids and arguments go into JSON, which can hold nothing else: refused rather than silently changed into something similar.
fn text(word: OsString) -> Result<String, Error> {
    word.into_string().map_err(|word| Error::new(Kind::Usage, format!("the argument {word:?} is not UTF-8")))
}

fn failed(log: &Log, error: &Error, prefix: &str, status: u8) -> ExitCode {
    log.failure(error, prefix);
    ExitCode::from(status)
}
