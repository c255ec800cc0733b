// SPDX-License-Identifier: Apache-2.0
//! The conformance suite: the OCI runtime specification 1.3.0 for Linux, sentence by sentence, for any runtime.
//!
//! `oci-conformance/run` builds and calls it; docs/conformance.md says how the runtimes fare. In reading order: entry.rs
//! (what a sentence and a test are), suite.rs, bundle.rs and seen.rs (what tests are written with), probe.rs (what runs
//! in the containers), standin.rs (how tests are proven), report.rs (what is printed). The folders hold the tables and
//! tests, a file for each part of a document.
//!
//! It drives a runtime through its command line only and observes from inside the container or from the kernel.
mod argued;
mod bundle;
mod config;
mod config_linux;
mod entry;
mod features;
mod hooks;
mod options;
#[allow(dead_code, reason = "a program of its own too, of which this one is the same source")]
mod probe;
mod relay;
mod report;
mod results;
mod runtime;
mod seen;
mod sentences;
mod standin;
mod suite;

use entry::Section;
use options::{Job, Options};
use results::Results;

/// All sections, in the order of the documents.
pub const CHAPTERS: &[&[Section]] = &[runtime::SECTIONS, config::SECTIONS, config_linux::SECTIONS, features::SECTIONS];

fn main() {
    let mut arguments = std::env::args().skip(1);
    if std::env::args().nth(1).as_deref() == Some("stand-in") {
        arguments.next();
        std::process::exit(standin::main(CHAPTERS, arguments));
    }
    let options = options::parse(arguments).unwrap_or_else(|words| {
        eprintln!("{words}");
        std::process::exit(2);
    });
    match work(&options) {
        Ok(true) => {}
        Ok(false) => std::process::exit(1),
        Err(words) => {
            eprintln!("conformance: {words}");
            std::process::exit(2);
        }
    }
}

/// Whether all is well.
fn work(options: &Options) -> Result<bool, String> {
    match &options.job {
        Job::List => {
            report::list();
            Ok(true)
        }
        Job::Sentences(dir) => sentences::check(dir),
        Job::Document(files) => report::document(files),
        Job::Run { runtimes } => {
            let mut all = Vec::new();
            for runtime in runtimes {
                all.push(Results::of(runtime, options)?);
            }
            Ok(report::all(&all, options))
        }
        Job::Prove { runtime } => results::prove(runtime, options),
    }
}
