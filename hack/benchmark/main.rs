// SPDX-License-Identifier: Apache-2.0
//! Measures runtimes against each other, and against a floor that does the kernel's work only. `hack/bench` builds and calls it.
//!
//! In reading order: bundle.rs (what is run), measure.rs (one command, measured), cases.rs (what is measured), budget.rs (the counts
//! that a change may not raise), report.rs (tables, bars, SVG), calls.rs (where the time of a command goes), trace.rs (which functions
//! run). Not part of the program.
//!
//! Runtimes take turns, in alternating order, so that whatever else the machine does meets all of them; medians are printed.
//! CPU is user and system time of the command, of all it waited for, and of the container's init until the command ends.
mod budget;
mod bundle;
mod calls;
mod cases;
mod measure;
mod report;
mod trace;

use std::path::PathBuf;

use measure::{Outcome, Runtime};

/// What is asked for; the words are those of `hack/bench`.
struct Options {
    runtimes: Vec<Runtime>,
    /// How many times each command is measured.
    runs: usize,
    /// A folder in memory for bundles and state.
    dir: PathBuf,
    /// Where a picture of the table goes.
    svg: Option<PathBuf>,
    /// How cost grows, too; it takes minutes.
    growth: bool,
    /// Hold the first runtime against this file of counts instead.
    budget: Option<PathBuf>,
    /// Show where the time of this command goes instead, of the first two runtimes.
    calls: Option<String>,
    /// Run the first runtime's commands under a tracer instead.
    functions: bool,
}

fn options() -> Outcome<Options> {
    let mut found = Options {
        runtimes: Vec::new(),
        runs: 20,
        dir: PathBuf::new(),
        svg: None,
        growth: false,
        budget: None,
        calls: None,
        functions: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} wants a value"));
        match word.as_str() {
            "--runs" => found.runs = value()?.parse().map_err(|_| "--runs wants a number".to_string())?,
            "--dir" => found.dir = value()?.into(),
            "--svg" => found.svg = Some(value()?.into()),
            "--calls" => found.calls = Some(value()?),
            "--growth" => found.growth = true,
            "--functions" => found.functions = true,
            "--budget" => found.budget = Some(value()?.into()),
            _ => {
                let (name, path) = word.split_once('=').ok_or(format!("not NAME=PATH: {word}"))?;
                found.runtimes.push(Runtime::new(name, path, &found.dir)?);
            }
        }
    }
    if found.runtimes.is_empty() || found.runs == 0 {
        return Err("no runtime, or no runs".into());
    }
    Ok(found)
}

fn work(options: &Options) -> Outcome<bool> {
    // Containers outlive the commands that make them; so they become children of this program, which reaps them.
    nix::sys::prctl::set_child_subreaper(true)?;
    let bundles = bundle::Bundles::make(&options.dir)?;
    if options.functions {
        return trace::functions(&options.runtimes[0], &bundles);
    }
    if let Some(command) = &options.calls {
        return calls::compare(options, &bundles, command);
    }
    if let Some(file) = &options.budget {
        return budget::check(&options.runtimes[0], &bundles, file);
    }
    let table = cases::commands(options, &bundles)?;
    report::commands(&table);
    report::bars(&table);
    if let Some(file) = &options.svg {
        std::fs::write(file, report::svg(&table))?;
    }
    report::syscalls(&options.runtimes, &cases::syscalls(&options.runtimes, &bundles)?);
    report::throughput(&options.runtimes, &cases::throughput(options, &bundles)?);
    if options.growth {
        for growth in cases::growth(options, &bundles)? {
            report::growth(&options.runtimes, &growth);
        }
    }
    Ok(true)
}

fn main() {
    match options().and_then(|options| work(&options)) {
        Ok(true) => {}
        Ok(false) => std::process::exit(1),
        Err(error) => {
            eprintln!("bench: {error}");
            std::process::exit(2);
        }
    }
}
