// SPDX-License-Identifier: Apache-2.0
//! Runs the tests against a runtime, or against its broken stand-ins, and prints TAP as it goes.
use crate::CHAPTERS;
use crate::argued::argument;
use crate::entry::{Check, Entry, Level, Outcome, Section, Stop};
use crate::options::Options;
use crate::suite::Suite;
use serde_json::{Value, json};
use std::process::Command;

/// What became of every sentence with one runtime in one place.
pub struct Results {
    /// Its program's name.
    pub name: String,
    /// The first line of its `--version`.
    pub version: String,
    /// Where this was: native, vm.
    pub place: String,
    pub records: Vec<Record>,
}

/// What became of one sentence.
pub struct Record {
    pub id: String,
    pub level: Level,
    pub fate: Fate,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fate {
    Passed,
    Failed(String),
    Skipped(String),
}

impl From<Outcome> for Fate {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Ok(()) => Fate::Passed,
            Err(Stop::Failed(why)) => Fate::Failed(why),
            Err(Stop::Skipped(why)) => Fate::Skipped(why),
        }
    }
}

impl Record {
    /// A MUST that the runtime does not keep.
    pub fn broken(&self) -> bool {
        self.level.binding() && matches!(self.fate, Fate::Failed(_))
    }
}

/// Every sentence, with its section.
pub fn entries() -> impl Iterator<Item = (&'static Section, &'static Entry)> {
    let sections = CHAPTERS.iter().flat_map(|sections| sections.iter());
    sections.flat_map(|section| section.entries.iter().map(move |entry| (section, entry)))
}

/// The name of a sentence.
pub fn id(section: &Section, entry: &Entry) -> String {
    format!("{}.{}", section.name, entry.number)
}

/// The sentences with a test that the words on the command line choose.
fn chosen(options: &Options) -> Vec<(String, &'static Entry)> {
    entries()
        .filter(|(_, entry)| matches!(entry.check, Check::Test { .. }))
        .map(|(section, entry)| (id(section, entry), entry))
        .filter(|(id, entry)| {
            let words = &options.words;
            words.is_empty() || words.iter().any(|word| id.contains(word.as_str()) || entry.quote.contains(word.as_str()))
        })
        .collect()
}

impl Results {
    /// Holds this runtime against the specification.
    pub fn of(runtime: &str, options: &Options) -> Result<Results, String> {
        let chosen = chosen(options);
        let suite = suite(vec![runtime.to_string()], options)?;
        let version = version(runtime);
        println!("TAP version 14");
        println!("# {version}, {}", options.place);
        println!("1..{}", chosen.len());
        let mut records = Vec::new();
        for (number, (id, entry)) in chosen.into_iter().enumerate() {
            let fate = fate(&suite, entry);
            tap(number + 1, &id, entry, &fate);
            records.push(Record { id, level: entry.level, fate });
        }
        Ok(Results { name: name(runtime), version, place: options.place.clone(), records })
    }

    /// How many passed, failed, were skipped.
    pub fn counts(&self) -> (usize, usize, usize) {
        let count = |wanted: fn(&Fate) -> bool| self.records.iter().filter(|record| wanted(&record.fate)).count();
        (
            count(|fate| *fate == Fate::Passed),
            count(|fate| matches!(fate, Fate::Failed(_))),
            count(|fate| matches!(fate, Fate::Skipped(_))),
        )
    }

    /// Whether the runtime keeps every MUST that could be tested, or has an argument.
    pub fn conforms(&self) -> bool {
        self.records.iter().all(|record| !record.broken() || argument(&self.name, &record.id).is_some())
    }

    pub fn to_json(&self) -> Value {
        let records = self.records.iter().map(|record| match &record.fate {
            Fate::Passed => json!([record.id, "passed"]),
            Fate::Failed(why) => json!([record.id, "failed", why]),
            Fate::Skipped(why) => json!([record.id, "skipped", why]),
        });
        json!({ "name": self.name, "version": self.version, "place": self.place, "records": records.collect::<Vec<_>>() })
    }

    /// Reads what `to_json` wrote; sentences that no longer exist are left out.
    pub fn from_json(value: &Value) -> Results {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
        let mut records = Vec::new();
        for record in value["records"].as_array().into_iter().flatten() {
            let known = entries().find(|(section, entry)| record[0] == id(section, entry));
            let Some((_, entry)) = known else { continue };
            let fate = match record[1].as_str() {
                Some("passed") => Fate::Passed,
                Some("failed") => Fate::Failed(text(&record[2])),
                _ => Fate::Skipped(text(&record[2])),
            };
            records.push(Record { id: text(&record[0]), level: entry.level, fate });
        }
        Results { name: text(&value["name"]), version: text(&value["version"]), place: text(&value["place"]), records }
    }
}

/// Proves of every test that it can fail: against the broken stand-in of its entry. Whether all could.
pub fn prove(runtime: &str, options: &Options) -> Result<bool, String> {
    let chosen = chosen(options);
    let suite_of = |broken: &str| {
        let this = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
        let this = this.to_string_lossy().into_owned();
        suite(vec![this, "stand-in".to_string(), broken.to_string(), runtime.to_string()], options)
    };
    println!("TAP version 14");
    println!("# stand-ins for {}, {}", version(runtime), options.place);
    println!("1..{}", chosen.len());
    let (mut proven, mut unproven, mut skipped) = (0, Vec::new(), Vec::new());
    for (number, (id, entry)) in chosen.into_iter().enumerate() {
        let number = number + 1;
        match fate(&suite(vec![runtime.to_string()], options)?, entry) {
            Fate::Passed => {}
            Fate::Failed(why) => {
                println!("ok {number} - {id} fails without a stand-in: {}", one_line(&why));
                proven += 1;
                continue;
            }
            Fate::Skipped(why) => {
                println!("ok {number} - {id} # SKIP {}", one_line(&why));
                skipped.push((id, why));
                continue;
            }
        }
        match fate(&suite_of(&id)?, entry) {
            Fate::Failed(why) => {
                println!("ok {number} - {id} fails: {}", one_line(&why));
                proven += 1;
            }
            other => {
                println!("not ok {number} - {id} against the broken runtime: {other:?}");
                unproven.push(id);
            }
        }
    }
    for (id, why) in &skipped {
        println!("skip {id}: {}", one_line(why));
    }
    for id in &unproven {
        println!("FAIL {id}: its test cannot fail");
    }
    println!("{proven} passed, {} failed, {} skipped", unproven.len(), skipped.len());
    Ok(unproven.is_empty())
}

fn fate(suite: &Suite, entry: &Entry) -> Fate {
    match &entry.check {
        Check::Test { run, .. } => run(suite).into(),
        Check::Untestable(why) | Check::Elsewhere(why) => Fate::Skipped(why.to_string()),
    }
}

fn suite(runtime: Vec<String>, options: &Options) -> Result<Suite, String> {
    Suite::new(runtime, options.probe.clone()).map_err(|stop| format!("cannot set the stage: {stop:?}"))
}

/// One test's line: a SHOULD that is not kept is marked, as TAP marks what need not be.
fn tap(number: usize, id: &str, entry: &Entry, fate: &Fate) {
    let what = format!("{id} {}: {}", entry.level.as_str(), entry.quote.replace('#', "\\#"));
    match fate {
        Fate::Passed => println!("ok {number} - {what}"),
        Fate::Skipped(why) => println!("ok {number} - {what} # SKIP {}", one_line(why)),
        Fate::Failed(why) => {
            let mark = if entry.level.binding() { "" } else { " # TODO it only SHOULD" };
            println!("not ok {number} - {what}{mark}");
            println!("# {}", one_line(why));
        }
    }
}

pub fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn name(runtime: &str) -> String {
    runtime.rsplit('/').next().unwrap_or(runtime).to_string()
}

/// The name and version that a runtime gives itself, in one line.
fn version(runtime: &str) -> String {
    let printed = Command::new(runtime).arg("--version").output().map(|ran| ran.stdout).unwrap_or_default();
    let printed = String::from_utf8_lossy(&printed).into_owned();
    let line = printed.lines().next().unwrap_or_default().replace(" version ", " ");
    if line.is_empty() { format!("{} of unknown version", name(runtime)) } else { line }
}
