// SPDX-License-Identifier: Apache-2.0
//! Broken runtimes: a real one, behind a stand-in that does one thing wrong. Against the one named in its entry, a
//! test must fail; `--prove` holds every test to that.
//!
//! The stand-in is this same program, called as `conformance stand-in ENTRY RUNTIME [ARGUMENT…]`: by the entry it
//! finds how to be broken.
use crate::entry::{Check, Section};
use crate::relay::{self, Mischief};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// One way for a runtime to be broken.
#[derive(Clone, Copy)]
pub enum Break {
    /// It reads another configuration than it was given.
    Config(fn(&mut Value)),
    /// As `Config`, told the bundle's folder.
    ConfigAt(fn(&mut Value, &Path)),
    /// It reads another process than it was given to execute (`exec --process`), or resources to set (`update`).
    File(&'static str, fn(&mut Value)),
    /// What it prints for this command is altered.
    Output(&'static str, fn(&mut Value)),
    /// It does nothing for this command, and claims success.
    Ignore(&'static str),
    /// It does nothing for this command, and fails.
    Deny(&'static str),
    /// It fails to create what this says of the configuration.
    DenyIf(fn(&Value) -> bool),
    /// It claims success for this command, whatever came of it.
    Hide(&'static str),
    /// It does something more after this command.
    After(&'static str, fn(&Call)),
    /// It does this in place of the command; the status to end with.
    Instead(&'static str, fn(&Call) -> i32),
    /// What it says to a seccomp agent arrives otherwise.
    Relay(Mischief),
}

/// A call of the runtime.
pub struct Call {
    real: String,
    arguments: Vec<String>,
    pub verb: String,
}

impl Call {
    /// The form of the suite's own calls: `--root DIR VERB [OPTION…] [ID…]` (see Suite::command).
    fn new(mut words: impl Iterator<Item = String>) -> Option<Call> {
        let real = words.next()?;
        let arguments: Vec<String> = words.collect();
        let verb = arguments.get(2)?.clone();
        Some(Call { real, arguments, verb })
    }

    fn option(&self, name: &str) -> Option<&str> {
        let at = self.arguments.iter().position(|word| word == name)?;
        self.arguments.get(at + 1).map(String::as_str)
    }

    /// The bundle of a `create`.
    pub fn bundle(&self) -> PathBuf {
        PathBuf::from(self.option("--bundle").unwrap_or("."))
    }

    /// The container's id: what the command is last told, or before the signal of a `kill`.
    pub fn id(&self) -> &str {
        let words = &self.arguments[3..];
        let named = if self.verb == "kill" { words.iter().rev().nth(1) } else { words.last() };
        named.map_or("", String::as_str)
    }

    /// The bundle that the suite made for this container.
    pub fn home(&self) -> PathBuf {
        let root = Path::new(self.option("--root").unwrap_or("/"));
        root.parent().unwrap_or(root).join("bundles").join(self.id())
    }

    /// The id of the container process, by the pid file.
    pub fn pid(&self) -> String {
        fs::read_to_string(self.home().join("pid")).unwrap_or_default().trim().to_string()
    }

    /// The container's cgroup, as the suite configures it.
    pub fn cgroup(&self) -> PathBuf {
        let unified = Path::new("/sys/fs/cgroup/unified");
        let top = if unified.exists() { unified } else { Path::new("/sys/fs/cgroup") };
        top.join(self.id())
    }

    /// Runs the real runtime with another command and its arguments, saying nothing.
    pub fn also(&self, words: &[&str]) -> i32 {
        let mut command = Command::new(&self.real);
        command.args(&self.arguments[..2]).args(words);
        status(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()))
    }

    /// As `also`, with stdout at the end of the bundle's file for the container's output.
    pub fn recreate(&self) -> i32 {
        let home = self.home();
        let Ok(out) = fs::File::options().append(true).open(home.join("out")) else { return 1 };
        let mut command = Command::new(&self.real);
        command.args(&self.arguments[..2]).args(["create", "--bundle"]).arg(&home);
        command.arg("--pid-file").arg(home.join("pid")).arg(self.id());
        status(command.stdin(Stdio::null()).stdout(out).stderr(Stdio::null()))
    }

    /// Runs the real runtime just as called.
    pub fn real(&self) -> i32 {
        status(Command::new(&self.real).args(&self.arguments))
    }

    /// Runs the real runtime as called, with the JSON in this file altered meanwhile.
    fn altered(&self, file: &Path, alter: impl FnOnce(&mut Value)) -> i32 {
        let Ok(text) = fs::read(file) else { return self.real() };
        let Ok(mut value) = serde_json::from_slice(&text) else { return self.real() };
        alter(&mut value);
        write(file, value.to_string().as_bytes());
        let status = self.real();
        write(file, &text);
        status
    }

    fn broken(&self, way: &Break) -> i32 {
        let config = self.bundle().join("config.json");
        match way {
            Break::Config(alter) if self.verb == "create" => self.altered(&config, alter),
            Break::ConfigAt(alter) if self.verb == "create" => self.altered(&config, |value| alter(value, &self.bundle())),
            Break::File(option, alter) if self.option(option).is_some() => {
                self.altered(Path::new(self.option(option).unwrap_or_default()), alter)
            }
            Break::Output(verb, alter) if self.verb == *verb => self.output(alter),
            Break::Ignore(verb) if self.verb == *verb => 0,
            Break::Deny(verb) if self.verb == *verb => 1,
            Break::DenyIf(condition) if self.verb == "create" => {
                let value = fs::read(&config).ok().and_then(|text| serde_json::from_slice(&text).ok());
                if value.as_ref().is_some_and(condition) { 1 } else { self.real() }
            }
            Break::Hide(verb) if self.verb == *verb => {
                self.real();
                0
            }
            Break::After(verb, more) if self.verb == *verb => {
                let status = self.real();
                more(self);
                status
            }
            Break::Instead(verb, other) if self.verb == *verb => other(self),
            Break::Relay(mischief) if self.verb == "create" => {
                let real = |relayed: Option<&Path>| {
                    self.altered(&config, |value| {
                        if let Some(path) = relayed {
                            value["linux"]["seccomp"]["listenerPath"] = path.to_string_lossy().into();
                        }
                    })
                };
                relay::run(*mischief, &config, real)
            }
            _ => self.real(),
        }
    }

    /// Runs the real runtime and prints its JSON altered.
    fn output(&self, alter: &fn(&mut Value)) -> i32 {
        let ran = Command::new(&self.real).args(&self.arguments).stderr(Stdio::inherit()).output();
        let Ok(ran) = ran else { return 127 };
        if let Ok(mut value) = serde_json::from_slice(&ran.stdout) {
            alter(&mut value);
            println!("{value}");
        }
        ran.status.code().unwrap_or(1)
    }
}

/// Plays the broken runtime named by the first of these arguments; its exit status.
pub fn main(chapters: &[&[Section]], mut arguments: impl Iterator<Item = String>) -> i32 {
    let name = arguments.next().unwrap_or_default();
    let entry = chapters
        .iter()
        .flat_map(|sections| sections.iter())
        .flat_map(|section| section.entries.iter().map(move |entry| (section.name, entry)))
        .find(|(section, entry)| format!("{section}.{}", entry.number) == name);
    match (entry, Call::new(arguments)) {
        (Some((_, entry)), Some(call)) => match &entry.check {
            Check::Test { broken, .. } => call.broken(broken),
            _ => call.real(),
        },
        _ => {
            eprintln!("stand-in: wants the name of an entry, a runtime and its arguments");
            2
        }
    }
}

fn write(file: &Path, text: &[u8]) {
    if let Err(error) = fs::write(file, text) {
        eprintln!("stand-in: cannot write {}: {error}", file.display());
    }
}

/// As a shell gives it, so that nothing is lost on the way.
fn status(command: &mut Command) -> i32 {
    match command.status() {
        Ok(status) => status.code().unwrap_or(1),
        Err(error) => {
            eprintln!("stand-in: cannot run {:?}: {error}", command.get_program());
            127
        }
    }
}

/// For a runtime that does not do what it should in the container: the program undoes it before it looks.
pub fn undo(config: &mut Value, action: &str) {
    if let Some(args) = config["process"]["args"].as_array_mut() {
        args.insert(1, action.into());
    }
}

/// For a runtime whose `create` starts the program, too.
pub fn start_too(call: &Call) {
    call.also(&["start", call.id()]);
}
