// SPDX-License-Identifier: Apache-2.0
//! The program's own command line; `oci-conformance/run` writes it, and explains it to people.
use std::path::PathBuf;

/// What is wanted.
pub struct Options {
    pub job: Job,
    /// The static probe (`--probe`).
    pub probe: PathBuf,
    /// Only entries whose name or quoted words hold one of these.
    pub words: Vec<String>,
    /// Where this run takes place, for the record: native, vm.
    pub place: String,
    /// Print the results as JSON in the end, each line after this mark.
    pub save: bool,
}

pub enum Job {
    /// Hold runtimes against the specification.
    Run { runtimes: Vec<String> },
    /// Prove that each test can fail, with the help of this runtime.
    Prove { runtime: String },
    /// Print the table of all sentences.
    List,
    /// Hold the table against the text of the specification in this folder.
    Sentences(PathBuf),
    /// Write docs/conformance.md from saved results.
    Document(Vec<PathBuf>),
}

/// Reads the arguments; what is wrong with them otherwise.
pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut runtimes = Vec::new();
    let mut words = Vec::new();
    let mut documents = Vec::new();
    let (mut probe, mut place, mut save, mut prove, mut job) = (PathBuf::new(), "native".to_string(), false, false, None);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} wants a value"));
        match argument.as_str() {
            "--probe" => probe = value()?.into(),
            "--runtime" => runtimes.push(value()?),
            "--place" => place = value()?,
            "--save" => save = true,
            "--prove" => prove = true,
            "--list" => job = Some(Job::List),
            "--sentences" => job = Some(Job::Sentences(value()?.into())),
            "--document" => documents.push(PathBuf::from(value()?)),
            word if word.starts_with('-') => return Err(format!("no such option: {word}; see oci-conformance/run --help")),
            word => words.push(word.to_string()),
        }
    }
    let job = match (job, documents.is_empty(), prove, runtimes.len()) {
        (Some(job), ..) => job,
        (_, false, ..) => Job::Document(documents),
        (_, _, true, 1) => Job::Prove { runtime: runtimes.remove(0) },
        (_, _, true, _) => return Err("--prove wants one --runtime".to_string()),
        (_, _, _, 0) => return Err("which runtime? call it by oci-conformance/run".to_string()),
        _ => Job::Run { runtimes },
    };
    Ok(Options { job, probe, words, place, save })
}
