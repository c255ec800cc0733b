// SPDX-License-Identifier: Apache-2.0
//! What people read: the list of sentences, tables of results, and docs/conformance.md.
use crate::argued::argument;
use crate::entry::Check;
use crate::options::Options;
use crate::results::{Fate, Record, Results, entries, id, one_line};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Marks the lines that hold saved results among all that is printed.
const MARK: &str = "results: ";

/// How many sentences there are.
struct Coverage {
    tested: usize,
    untestable: usize,
    elsewhere: usize,
}

fn coverage() -> Coverage {
    let count = |wanted: fn(&Check) -> bool| entries().filter(|(_, entry)| wanted(&entry.check)).count();
    Coverage {
        tested: count(|check| matches!(check, Check::Test { .. })),
        untestable: count(|check| matches!(check, Check::Untestable(_))),
        elsewhere: count(|check| matches!(check, Check::Elsewhere(_))),
    }
}

impl Coverage {
    fn line(&self) -> String {
        let testable = self.tested;
        let total = self.tested + self.untestable;
        format!(
            "coverage: {} of {testable} testable sentences tested, of {total} for Linux ({} cannot be tested, {} more are for other platforms)",
            self.tested, self.untestable, self.elsewhere
        )
    }
}

/// Every sentence and what is done about it.
pub fn list() {
    for (section, entry) in entries() {
        let (fate, why) = match entry.check {
            Check::Test { .. } => ("tested", ""),
            Check::Untestable(why) => ("untestable", why),
            Check::Elsewhere(platform) => ("elsewhere", platform),
        };
        println!("{:<10} {:<10} {:<52} {}", fate, entry.level.as_str(), id(section, entry), entry.quote);
        if !why.is_empty() {
            println!("{:>21} {why}", "");
        }
    }
    println!("{}", coverage().line());
}

/// The end of a run: tables, then the line that counts. Whether every MUST is kept.
pub fn all(results: &[Results], options: &Options) -> bool {
    println!();
    if results.len() > 1 {
        compare(results);
    }
    println!(
        "{:<28} {:>7} {:>7} {:>7}   {:>11} {:>13}",
        "runtime", "passed", "failed", "skipped", "MUST failed", "SHOULD failed"
    );
    for one in results {
        let (passed, failed, skipped) = one.counts();
        let musts = one.records.iter().filter(|record| record.broken()).count();
        println!("{:<28} {passed:>7} {failed:>7} {skipped:>7}   {musts:>11} {:>13}", one.version, failed - musts);
    }
    println!("{}", coverage().line());
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for one in results {
        println!();
        let counts = one.counts();
        (passed, failed, skipped) = (passed + counts.0, failed + counts.1, skipped + counts.2);
        for record in &one.records {
            match (&record.fate, argument(&one.name, &record.id)) {
                (Fate::Passed, _) => {}
                (Fate::Skipped(why), _) => println!("skip {} {}: {}", one.name, record.id, one_line(why)),
                (Fate::Failed(_), Some(argument)) => {
                    (failed, skipped) = (failed - 1, skipped + 1);
                    println!("skip {} {} {}: argued: {argument}", one.name, record.level.as_str(), record.id);
                }
                (Fate::Failed(why), None) => {
                    println!("FAIL {} {} {}: {}", one.name, record.level.as_str(), record.id, one_line(why));
                }
            }
        }
        if options.save {
            println!("{MARK}{}", one.to_json());
        }
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    results.iter().all(Results::conforms)
}

/// Runtimes side by side: a row for every sentence on which not all pass.
fn compare(results: &[Results]) {
    print!("{:<52} {:<10}", "sentence", "level");
    for one in results {
        print!(" {:<10}", one.name);
    }
    println!();
    for (index, record) in results[0].records.iter().enumerate() {
        if results.iter().all(|one| one.records[index].fate == Fate::Passed) {
            continue;
        }
        print!("{:<52} {:<10}", record.id, record.level.as_str());
        for one in results {
            print!(" {:<10}", word(&one.records[index].fate));
        }
        println!();
    }
    println!();
}

fn word(fate: &Fate) -> &'static str {
    match fate {
        Fate::Passed => "passed",
        Fate::Failed(_) => "FAILED",
        Fate::Skipped(_) => "skipped",
    }
}

/// Writes docs/conformance.md to stdout, from what runs with `--save` printed into these files.
pub fn document(files: &[PathBuf]) -> Result<bool, String> {
    let mut saved = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        for line in text.lines().filter_map(|line| line.strip_prefix(MARK)) {
            let value = serde_json::from_str(line).map_err(|error| format!("in {}: {error}", file.display()))?;
            saved.push(Results::from_json(&value));
        }
    }
    let runtimes = merge(saved);
    if runtimes.is_empty() {
        return Err("no results saved in these files".to_string());
    }
    print!("{}", DOCUMENT_HEAD);
    println!("{}\n", coverage().line());
    println!("| runtime | passed | failed | skipped | MUST failed | SHOULD failed |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    for one in &runtimes {
        let (passed, failed, skipped) = one.counts();
        let musts = one.records.iter().filter(|record| record.broken()).count();
        println!("| {} ({}) | {passed} | {failed} | {skipped} | {musts} | {} |", one.version, one.place, failed - musts);
    }
    document_failures(&runtimes);
    document_skips(&runtimes);
    document_untested();
    Ok(true)
}

/// One result for each runtime: a sentence failed anywhere is failed, one skipped in one place counts in the other.
fn merge(saved: Vec<Results>) -> Vec<Results> {
    let mut merged: Vec<Results> = Vec::new();
    for results in saved {
        let Some(known) = merged.iter_mut().find(|known| known.version == results.version) else {
            merged.push(results);
            continue;
        };
        known.place = format!("{}, {}", known.place, results.place);
        let mut others: BTreeMap<String, Record> =
            results.records.into_iter().map(|record| (record.id.clone(), record)).collect();
        for record in &mut known.records {
            let Some(other) = others.remove(&record.id) else { continue };
            record.fate = match (record.fate.clone(), other.fate) {
                (Fate::Failed(why), _) | (_, Fate::Failed(why)) => Fate::Failed(why),
                (Fate::Passed, _) | (_, Fate::Passed) => Fate::Passed,
                (Fate::Skipped(why), Fate::Skipped(_)) => Fate::Skipped(why),
            };
        }
    }
    merged
}

fn document_failures(runtimes: &[Results]) {
    println!("\n## Sentences that not every runtime keeps\n");
    print!("| sentence | level | |");
    runtimes.iter().for_each(|one| print!(" {} |", one.name));
    print!("\n| --- | --- | --- |");
    runtimes.iter().for_each(|_| print!(" --- |"));
    println!();
    for (section, entry) in entries() {
        let id = id(section, entry);
        let fates: Vec<Option<&Fate>> =
            runtimes.iter().map(|one| one.records.iter().find(|record| record.id == id).map(|record| &record.fate)).collect();
        if !fates.iter().any(|fate| matches!(fate, Some(Fate::Failed(_)))) {
            continue;
        }
        print!("| `{id}` | {} | {} |", entry.level.as_str(), cell(entry.quote));
        for (fate, one) in fates.iter().zip(runtimes) {
            let argued = argument(&one.name, &id);
            match (fate, argued) {
                (Some(Fate::Failed(_)), Some(argument)) => print!(" argued: {} |", cell(argument)),
                (Some(Fate::Failed(why)), None) => print!(" **fails**: {} |", cell(why)),
                (Some(fate), _) => print!(" {} |", word(fate)),
                (None, _) => print!(" |"),
            }
        }
        println!();
    }
}

fn document_skips(runtimes: &[Results]) {
    println!("\n## Sentences skipped\n");
    println!("| sentence | level | runtime | why |\n| --- | --- | --- | --- |");
    for one in runtimes {
        for record in &one.records {
            if let Fate::Skipped(why) = &record.fate {
                println!("| `{}` | {} | {} | {} |", record.id, record.level.as_str(), one.name, cell(why));
            }
        }
    }
}

fn document_untested() {
    println!("\n## Sentences that cannot be tested\n");
    println!("| sentence | level | | why |\n| --- | --- | --- | --- |");
    for (section, entry) in entries() {
        if let Check::Untestable(why) = entry.check {
            println!("| `{}` | {} | {} | {} |", id(section, entry), entry.level.as_str(), cell(entry.quote), cell(why));
        }
    }
    println!("\n## Sentences for other platforms\n");
    println!("| sentence | level | platform |\n| --- | --- | --- |");
    for (section, entry) in entries() {
        if let Check::Elsewhere(platform) = entry.check {
            println!("| `{}` | {} | {} |", id(section, entry), entry.level.as_str(), platform);
        }
    }
}

/// Text as it can stand in a table of Markdown, and the same each time.
fn cell(text: &str) -> String {
    let mut text = one_line(text).replace('|', "\\|").replace('<', "&lt;");
    // Containers and folders of the suite bear numbers.
    while let Some(at) = text.find("conformance-").filter(|at| text[at + 12..].starts_with(|c: char| c.is_ascii_digit())) {
        let number = text[at + 12..].find(|c: char| !c.is_ascii_digit() && c != '-').unwrap_or(text.len() - at - 12);
        text.replace_range(at..at + 12 + number, "ID");
    }
    text
}

const DOCUMENT_HEAD: &str = "\
<!-- Generated by `oci-conformance/run --docs`; do not edit. -->
# Conformance to the OCI runtime specification 1.3.0

Every sentence of the specification for Linux that holds a MUST, MUST NOT, SHOULD or SHOULD NOT, and how runtimes keep
it. A sentence is named by document, section and its number among those of the section; a row of a table by its first
column. [conformance-suite.md](conformance-suite.md) says how to run the suite and how it judges.

";
