// SPDX-License-Identifier: Apache-2.0
//! Bad input, as tables: malformed, contradictory, oversized and hostile files, ids, paths and flags.
//!
//! Every case must end with an exit status that is not 0 and a message that names the field and the value, before a deadline, in
//! bounded memory, and leave nothing: no entry in the state root, no cgroup. One bundle serves a whole table. A test's message lists all
//! its cases that went wrong.

use std::fs;
use std::path::PathBuf;

use nix::sys::resource::{UsageWho, getrusage};
use serde_json::Value;

use crate::harness::bundle::{folder, state_root};
use crate::harness::run::Group;
use crate::harness::{Bundle, Call, Output, look};

mod contradictions;
mod files;
mod flags;
mod json;
mod numbers;
mod paths;
mod process_file;
mod resources_file;
mod state_files;
mod types;
mod words;

/// The tables, each a group of tests.
pub const GROUPS: &[Group] = &[
    Group { name: "bad_json", tests: json::TESTS },
    Group { name: "bad_types", tests: types::TESTS },
    Group { name: "bad_numbers", tests: numbers::TESTS },
    Group { name: "bad_words", tests: words::TESTS },
    Group { name: "bad_contradictions", tests: contradictions::TESTS },
    Group { name: "bad_paths", tests: paths::TESTS },
    Group { name: "bad_files", tests: files::TESTS },
    Group { name: "bad_flags", tests: flags::TESTS },
    Group { name: "bad_process_file", tests: process_file::TESTS },
    Group { name: "bad_resources_file", tests: resources_file::TESTS },
    Group { name: "bad_state_files", tests: state_files::TESTS },
];

/// What other runtimes make of these tables is not ours to say: they are about this program's own words.
pub const OWN_WORDS: &[(&str, &str)] = &[("runc", "judges some of these otherwise"), ("crun", "judges some of these otherwise")];

/// The most memory that a call may have had resident, in KiB: a config.json may be 32 MiB, and is held as text and as values.
const MOST_MEMORY_KIB: i64 = 256 << 10;

/// Tries the cases of a table, and keeps what was wrong with them.
pub struct Bench {
    /// The bundle as a case may change it; it is put back after each.
    pub bundle: Bundle,
    config: Value,
    cgroup: PathBuf,
    tried: usize,
    wrong: Vec<String>,
}

impl Bench {
    pub fn new() -> Bench {
        let bundle = Bundle::new();
        let cgroup = look::cgroup2_root().join(&bundle.id);
        Bench { config: bundle.config.clone(), bundle, cgroup, tried: 0, wrong: Vec::new() }
    }

    /// `create` of the changed configuration must fail, with a message that has all these words in it.
    pub fn refuses(&mut self, what: &str, words: &[&str], change: impl FnOnce(&mut Bundle)) {
        change(&mut self.bundle);
        self.bundle.save();
        self.creates_nothing(what, words);
        self.bundle.config = self.config.clone();
    }

    /// The same of a value at a JSON pointer (`-` appends), whose path the message must name, with these words.
    pub fn refuses_value(&mut self, pointer: &str, value: Value, words: &[&str]) {
        let path = self.path_of(pointer);
        let what = format!("{path} = {}", shortened(&value.to_string()));
        self.refuses(&what, &[&[path.as_str()], words].concat(), |bundle| {
            bundle.set(pointer, value);
        });
    }

    /// The same of a whole text as config.json.
    pub fn refuses_text(&mut self, what: &str, text: &[u8], words: &[&str]) {
        fs::write(self.bundle.dir.join("config.json"), text).unwrap();
        self.creates_nothing(what, words);
    }

    /// `create` of the bundle as it stands must fail.
    pub fn creates_nothing(&mut self, what: &str, words: &[&str]) {
        let call = Call::new(&["create", "--bundle", self.bundle.path(), &self.bundle.id]);
        self.fails(what, call, words);
    }

    /// A call must fail, and leave nothing.
    pub fn fails(&mut self, what: &str, call: Call, words: &[&str]) {
        self.judge(what, call, words);
        let left: Vec<_> = fs::read_dir(state_root()).unwrap().flatten().map(|entry| entry.file_name()).collect();
        if !left.is_empty() {
            self.wrong.push(format!("{what}: left {left:?} in the state root"));
            left.iter().for_each(|id| drop(Call::new(&["delete", "--force", id.to_str().unwrap()]).output()));
        }
        if self.cgroup.exists() {
            self.wrong.push(format!("{what}: left its cgroup"));
            let _ = fs::remove_dir(&self.cgroup);
        }
    }

    /// A call must fail with a message that has all these words in it, whatever their case.
    pub fn judge(&mut self, what: &str, call: Call, words: &[&str]) {
        // Into files: a container that is made by mistake would hold a pipe.
        for file in [self.bundle.stdout_file(), self.bundle.stderr_file()] {
            fs::write(file, "").unwrap();
        }
        let Output { status, stderr, .. } = self.bundle.output_of(call);
        self.tried += 1;
        // Without a log file the message stands in quotes, and its own quotes behind backslashes.
        let message = stderr.replace("\\\"", "\"").replace("\\\\", "\\").to_lowercase();
        let missing: Vec<_> = words.iter().filter(|word| !message.contains(&word.to_lowercase())).collect();
        if status.code().is_none() || status.success() {
            self.wrong.push(format!("{what}: {status}: {:?}", shortened(&stderr)));
        } else if !missing.is_empty() || stderr.trim().is_empty() {
            self.wrong.push(format!("{what}: the message lacks {missing:?}: {:?}", shortened(&stderr)));
        } else if stderr.len() > 8000 || stderr.lines().filter(|line| !line.contains("level=warning")).count() != 1 {
            self.wrong.push(format!("{what}: the message is no line that one would read: {:?}", shortened(&stderr)));
        }
    }

    /// The end of a table that has at least so many cases.
    pub fn finish(self, least: usize) {
        assert!(self.wrong.is_empty(), "{} of {} cases: {}", self.wrong.len(), self.tried, self.wrong.join("\n"));
        assert!(self.tried >= least, "only {} cases", self.tried);
        let most = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss();
        assert!(most < MOST_MEMORY_KIB, "a call had {most} KiB of memory");
        eprintln!("{} cases, {most} KiB at most", self.tried);
    }

    /// `/linux/devices/-/path` is `linux.devices[0].path` in the words of the messages.
    fn path_of(&self, pointer: &str) -> String {
        let mut path = String::new();
        let mut at = Some(&self.config);
        for word in pointer.split('/').skip(1) {
            let list = at.and_then(Value::as_array);
            match word.parse::<usize>() {
                _ if word == "-" => path.push_str(&format!("[{}]", list.map_or(0, Vec::len))),
                Ok(index) if list.is_some() => path.push_str(&format!("[{index}]")),
                _ if word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') => {
                    path.push_str(if path.is_empty() { "" } else { "." });
                    path.push_str(word);
                }
                _ => path.push_str(&format!("[{word:?}]")),
            }
            at = at.and_then(|value| value.get(word).or_else(|| value.get(word.parse::<usize>().ok()?)));
        }
        path
    }
}

/// The first letters of a text.
pub fn shortened(text: &str) -> String {
    text.chars().take(300).collect()
}

/// A file of the test's folder with this content.
pub fn file(name: &str, content: impl AsRef<[u8]>) -> String {
    let path = folder().join(name);
    fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}
