// SPDX-License-Identifier: Apache-2.0
//! The `berth` program: arguments to a command, and the one place where an error becomes text, a log line and an exit status.

#![no_main]
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

use std::ffi::OsString;
use std::io::Write;

use berth::cli::args::{self, Parsed};
use berth::cli::log::Log;
use berth::cli::{request, verbs};
use berth::error::{Error, Kind};
use berth::linux::arena::{self, Arena};

#[global_allocator]
static MEMORY: Arena = Arena::new();

berth::entry!(run);

fn run(argv: Vec<OsString>) -> u8 {
    arena::announce(&MEMORY);
    let mut words = argv.iter().cloned();
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
            let mut out = std::io::stdout();
            let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
            return 0;
        }
        Err(error) => return failed(&Log::default(), &error, "", 1),
    };
    let log = match request::log(&invocation.global) {
        Ok(log) => log,
        Err(error) => return failed(&Log::default(), &error, "", 1),
    };
    match verbs::run(&program, &argv, &invocation, &log) {
        Ok(status) => status,
        Err(error) => {
            // As runc begins these messages, without its name.
            let (prefix, status) = match invocation.verb.name {
                "create" => ("create failed: ", 1),
                "run" => ("run failed: ", 1),
                "exec" => ("exec failed: ", 255),
                // As diff(1): 1 is a difference.
                "plan" if invocation.args.text("diff").is_some() => ("", verbs::TROUBLE),
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

fn failed(log: &Log, error: &Error, prefix: &str, status: u8) -> u8 {
    log.failure(error, prefix);
    status
}
