// SPDX-License-Identifier: Apache-2.0
//! The `berth` program: arguments to a command, and the one place where an error becomes text, a log line and an exit status.

use std::io::Write;
use std::process::ExitCode;

use berth::cli::args::{self, Parsed};
use berth::cli::log::Log;
use berth::cli::{request, verbs};
use berth::error::Error;

fn main() -> ExitCode {
    let mut words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let called = words.next().unwrap_or_default();
    let program = called.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("berth").to_string();
    let invocation = match args::parse(&program, words.collect()) {
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

fn failed(log: &Log, error: &Error, prefix: &str, status: u8) -> ExitCode {
    log.failure(error, prefix);
    ExitCode::from(status)
}
