// SPDX-License-Identifier: Apache-2.0
//! Holds the tables against the text of the specification, so that no sentence is forgotten and none invented.
//!
//! Called with `--sentences DIR`, DIR being a checkout of the runtime-spec at the version that main.rs names.
use crate::entry::Level;
use crate::results::{entries, id};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const DOCUMENTS: [&str; 6] =
    ["runtime.md", "runtime-linux.md", "config.md", "config-linux.md", "features.md", "features-linux.md"];

/// A sentence of the specification that holds a key word.
struct Sentence {
    /// Its words, without marks of Markdown.
    text: String,
    levels: Vec<Level>,
}

/// Compares, says what differs, and whether nothing does.
pub fn check(dir: &Path) -> Result<bool, String> {
    let mut found: BTreeMap<String, Sentence> = BTreeMap::new();
    for document in DOCUMENTS {
        let path = dir.join(document);
        let text = fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        read(document, &text, &mut found);
    }
    let (mut differences, total) = (0, found.len());
    let mut differ = |words: String| {
        println!("{words}");
        differences += 1;
    };
    let mut named = Vec::new();
    for (section, entry) in entries() {
        let id = id(section, entry);
        // One sentence, two entries: 6a and 6b.
        let plain = id.trim_end_matches(['a', 'b']);
        let name = if found.contains_key(&id) { id.as_str() } else { plain };
        match found.get(name) {
            None => differ(format!("{id}: no such sentence")),
            Some(sentence) if !sentence.text.contains(&plainly(entry.quote)) => {
                differ(format!("{id}: {:?} is not in {:?}", entry.quote, sentence.text));
            }
            Some(sentence) if !sentence.levels.contains(&entry.level) => {
                differ(format!("{id}: not a {} but {:?}: {}", entry.level.as_str(), sentence.levels, sentence.text));
            }
            Some(_) => {}
        }
        named.push(name.to_string());
    }
    for (id, sentence) in &found {
        if !named.contains(id) {
            differ(format!("{id}: no entry for {:?}", sentence.text));
        }
    }
    println!("{total} sentences in the specification, {} entries here, {differences} differences", named.len());
    Ok(differences == 0)
}

/// Reads a document, paragraph by paragraph.
fn read(document: &str, text: &str, found: &mut BTreeMap<String, Sentence>) {
    let mut section = String::new();
    let mut paragraph = String::new();
    let mut fenced = false;
    let mut counts = BTreeMap::new();
    for line in text.lines().chain([""]) {
        let line = line.trim();
        if line.starts_with("```") {
            fenced = !fenced;
            continue;
        }
        if fenced {
            continue;
        }
        let row = line.starts_with('|') || (line.starts_with('`') && line.contains("` ") && line.contains('|'));
        let item = line.starts_with("* ") || line.starts_with("- ") || line.starts_with('>') || numbered(line);
        if line.is_empty() || line.starts_with('#') || row || item {
            split(document, &section, &std::mem::take(&mut paragraph), &mut counts, found);
        }
        if let Some(title) = line.strip_prefix('#') {
            let title = slug(title);
            // An example is part of what it is an example of.
            if !title.starts_with("example") {
                section = title;
            }
        } else {
            paragraph = format!("{paragraph} {line}");
        }
    }
    split(document, &section, &paragraph, &mut counts, found);
}

fn numbered(line: &str) -> bool {
    line.split_once(". ").is_some_and(|(number, _)| number.parse::<u32>().is_ok())
}

/// Splits a paragraph into sentences, names those that hold a key word.
fn split(
    document: &str,
    section: &str,
    paragraph: &str,
    counts: &mut BTreeMap<String, u32>,
    found: &mut BTreeMap<String, Sentence>,
) {
    let mut text = without_links(paragraph);
    let mut prefix = format!("{document}#{section}");
    let cells: Vec<String> = text.trim().trim_matches('|').split('|').map(|cell| plainly(cell).trim().to_string()).collect();
    if cells.len() > 1 {
        prefix = format!("{prefix}.{}", cells[0]);
        if let [level] = levels(&cells[1])[..]
            && level.as_str() == cells[1]
        {
            found.insert(prefix.clone(), Sentence { text: cells.join(" "), levels: vec![level] });
            text = cells[2..].join(" ");
        }
    }
    for sentence in sentences(&text) {
        let sentence = plainly(&sentence);
        let levels = levels(&sentence);
        if !levels.is_empty() {
            let count = counts.entry(prefix.clone()).or_default();
            *count += 1;
            found.insert(format!("{prefix}.{count}"), Sentence { text: sentence, levels });
        }
    }
}

/// A sentence ends with one of .:! before white space and a capital letter.
fn sentences(text: &str) -> Vec<String> {
    let mut sentences = Vec::new();
    let mut sentence = String::new();
    let words: Vec<&str> = text.split_whitespace().collect();
    for (index, word) in words.iter().enumerate() {
        sentence = format!("{sentence} {word}");
        let next = words.get(index + 1).and_then(|next| next.trim_start_matches(['"', '(']).chars().next());
        let ends = word.trim_end_matches(')').ends_with(['.', ':', '!']) && !["e.g.", "(e.g.", "i.e."].contains(word);
        if ends && next.is_none_or(|next| next.is_uppercase() || "`*".contains(next)) {
            sentences.push(std::mem::take(&mut sentence).trim().to_string());
        }
    }
    sentences.push(sentence.trim().to_string());
    sentences
}

fn levels(sentence: &str) -> Vec<Level> {
    let words: Vec<&str> = sentence.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let mut levels = Vec::new();
    for (index, word) in words.iter().enumerate() {
        match (*word, words.get(index + 1)) {
            ("MUST", Some(&"NOT")) => levels.push(Level::MustNot),
            ("MUST", _) => levels.push(Level::Must),
            ("SHOULD", Some(&"NOT")) => levels.push(Level::ShouldNot),
            ("SHOULD", _) => levels.push(Level::Should),
            _ => {}
        }
    }
    levels
}

/// `[text](target)` and `[text][name]` become text.
fn without_links(text: &str) -> String {
    let mut plain = text.to_string();
    while let Some(middle) = plain.find("](").or_else(|| plain.find("][")) {
        let close = if plain[middle + 1..].starts_with('(') { ')' } else { ']' };
        // Brackets may stand in the text of a link, in code: syscalls[].action.
        let mut depth = 0;
        let open = plain[..middle].char_indices().rev().find(|(_, c)| {
            depth += i32::from(*c == ']') - i32::from(*c == '[');
            depth < 0
        });
        let end = plain[middle + 2..].find(close).map(|end| middle + 2 + end);
        match (open, end) {
            (Some((open, _)), Some(end)) => {
                plain = format!("{}{}{}", &plain[..open], &plain[open + 1..middle], &plain[end + 1..]);
            }
            // No link after all: makes sure that it is not found again.
            _ => plain.replace_range(middle..middle + 2, "] "),
        }
    }
    plain
}

/// Without marks for code and stress.
fn plainly(text: &str) -> String {
    let text: String = text.chars().filter(|c| !matches!(c, '`' | '*')).collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A heading as a link names it.
fn slug(title: &str) -> String {
    let title = title.trim_start_matches('#');
    let title = title.rsplit('>').next().unwrap_or(title).trim().to_lowercase();
    title.chars().filter(|c| c.is_ascii_alphanumeric() || " -".contains(*c)).collect::<String>().replace(' ', "-")
}
