// SPDX-License-Identifier: Apache-2.0
//! What the suite's containers and hooks run: it looks around, and says as JSON what it sees.
//!
//! `oci-conformance/run` compiles this file by itself into a static program, so it uses nothing but the standard
//! library and needs nothing in the container, not even /proc. Its arguments are actions, done in order; each says what
//! it found in one line of JSON, on stdout or in the file named by the last `to`. An action that fails says so in its
//! line, and the next one is done all the same.
//!
//! | action                 | what it does                                                                     |
//! | ---------------------- | -------------------------------------------------------------------------------- |
//! | `to:PATH`              | from now on append the lines to this file                                        |
//! | `say:TEXT`             | only say TEXT                                                                    |
//! | `report`               | its arguments, environment, identity, namespaces, descriptors, and files of /proc |
//! | `drain`                | read all of stdin and say nothing                                                |
//! | `stdin`                | what `drain` read                                                                |
//! | `container`            | the container whose state `drain` read: its namespaces, program and root         |
//! | `read:PATH`            | the text of a file                                                               |
//! | `write:PATH:TEXT`      | write into an existing file                                                      |
//! | `open:HOW:PATH`        | open it, HOW being r, w or rw                                                    |
//! | `touch:PATH` `mkdir:PATH` `unlink:PATH` | make or remove a file                                           |
//! | `stat:PATH`            | its type, owner, mode, device numbers, the target of a link                      |
//! | `list:PATH`            | the names in a directory                                                         |
//! | `eat:MIB`              | take that much memory and keep it                                                |
//! | `spawn`                | run another process                                                              |
//! | `sleep:MS` `wait`      | sleep for a while, or for ever                                                   |
//! | `exit:STATUS`          | end                                                                              |
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::time::Duration;

/// Does the actions in the program's arguments.
pub fn main() {
    let mut probe = Probe { to: None, state: String::new(), eaten: Vec::new() };
    for action in std::env::args().skip(1) {
        probe.act(&action);
    }
}

struct Probe {
    to: Option<String>,
    state: String,
    eaten: Vec<Vec<u8>>,
}

impl Probe {
    fn act(&mut self, action: &str) {
        let (verb, rest) = action.split_once(':').unwrap_or((action, ""));
        let mut line = Object::new();
        line.text("action", action);
        let done = match verb {
            "to" => {
                self.to = Some(rest.to_string());
                return;
            }
            "sleep" => {
                std::thread::sleep(Duration::from_millis(rest.parse().unwrap_or(0)));
                return;
            }
            "wait" => loop {
                std::thread::sleep(Duration::from_secs(3600));
            },
            "exit" => std::process::exit(rest.parse().unwrap_or(0)),
            "say" => {
                line.text("say", rest);
                Ok(())
            }
            "report" => {
                report(&mut line);
                Ok(())
            }
            "drain" => {
                // A program that leaves its stdin unread may cost a careless writer a SIGPIPE.
                let _ = io::stdin().read_to_string(&mut self.state);
                return;
            }
            "stdin" => {
                line.text("stdin", &self.state);
                Ok(())
            }
            "container" => {
                container(&mut line, &self.state);
                Ok(())
            }
            "eat" => {
                // Written, not only reserved: every page is the container's.
                self.eaten.push(vec![1; rest.parse::<usize>().unwrap_or(0) << 20]);
                Ok(())
            }
            "spawn" => std::process::Command::new("/probe").status().map(drop),
            _ => file(verb, rest, &mut line),
        };
        line.number("errno", done.err().map_or(0, |error| error.raw_os_error().unwrap_or(-1).into()));
        self.say(line);
    }

    fn say(&self, line: Object) {
        let text = line.end() + "\n";
        let written = match &self.to {
            // One write(2): lines of several processes do not mix.
            Some(path) => {
                OpenOptions::new().append(true).create(true).open(path).and_then(|mut to| to.write_all(text.as_bytes()))
            }
            None => io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()),
        };
        if let Err(error) = written {
            eprintln!("probe: cannot write to {}: {error}", self.to.as_deref().unwrap_or("stdout"));
            std::process::exit(97);
        }
    }
}

/// The actions upon one file.
fn file(verb: &str, rest: &str, line: &mut Object) -> io::Result<()> {
    match verb {
        "read" => line.text("text", &String::from_utf8_lossy(&fs::read(rest)?)),
        "write" => {
            let (path, text) = rest.split_once(':').unwrap_or((rest, ""));
            OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())?;
        }
        "open" => {
            let (how, path) = rest.split_once(':').unwrap_or(("r", rest));
            OpenOptions::new().read(how.contains('r')).write(how.contains('w')).open(path)?;
        }
        "touch" => drop(File::create(rest)?),
        "mkdir" => fs::create_dir(rest)?,
        "unlink" => fs::remove_file(rest)?,
        "list" => {
            line.texts("names", fs::read_dir(rest)?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()))
        }
        "stat" => stat(rest, line)?,
        _ => {
            eprintln!("probe: no such action: {verb}:{rest}");
            std::process::exit(98);
        }
    }
    Ok(())
}

fn stat(path: &str, line: &mut Object) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    let kind = found.file_type();
    let letter = match kind {
        kind if kind.is_char_device() => "c",
        kind if kind.is_block_device() => "b",
        kind if kind.is_fifo() => "p",
        kind if kind.is_dir() => "d",
        kind if kind.is_symlink() => "l",
        kind if kind.is_socket() => "s",
        _ => "-",
    };
    line.text("type", letter);
    line.number("mode", i64::from(found.mode() & 0o7777));
    line.number("uid", i64::from(found.uid()));
    line.number("gid", i64::from(found.gid()));
    // As the kernel's new_encode_dev(), of which makedev(3) speaks.
    let device = found.rdev();
    line.number("major", (((device >> 8) & 0xfff) | ((device >> 32) & !0xfff)) as i64);
    line.number("minor", ((device & 0xff) | ((device >> 12) & !0xff)) as i64);
    if kind.is_symlink() {
        line.text("target", &fs::read_link(path)?.to_string_lossy());
    }
    Ok(())
}

fn report(line: &mut Object) {
    line.texts("args", std::env::args());
    line.texts("env", std::env::vars_os().map(|(key, value)| format!("{}={}", key.to_string_lossy(), value.to_string_lossy())));
    line.text("cwd", &std::env::current_dir().map(|dir| dir.to_string_lossy().into_owned()).unwrap_or_default());
    line.number("pid", i64::from(std::process::id()));
    for name in ["status", "limits", "mountinfo", "cgroup", "oom_score_adj", "timens_offsets"] {
        line.text(name, &fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default());
    }
    for name in ["hostname", "domainname"] {
        line.text(name, fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap_or_default().trim_end());
    }
    line.object("ns", links("/proc/self/ns"));
    line.object("fd", links("/proc/self/fd"));
}

/// What a hook can learn of the container, from outside or inside, by the state on its stdin.
fn container(line: &mut Object, state: &str) {
    let pid: String = after(state, "\"pid\"").chars().take_while(char::is_ascii_digit).collect();
    let bundle: String = after(state, "\"bundle\"").trim_start_matches('"').chars().take_while(|c| *c != '"').collect();
    // Some write JSON with its slashes escaped, which it allows.
    let bundle = bundle.replace("\\/", "/");
    let config = format!("{bundle}/config.json");
    line.text("pid", &pid);
    line.object("ns", links(&format!("/proc/{pid}/ns")));
    line.text("cmdline", &fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " "));
    line.truth("alive", !pid.is_empty() && fs::exists(format!("/proc/{pid}/status")).unwrap_or(false));
    line.truth("its_root_has_the_bundle", fs::exists(format!("/proc/{pid}/root{config}")).unwrap_or(false));
    line.truth("my_root_has_the_bundle", fs::exists(&config).unwrap_or(false));
}

/// What follows a key and its colon in a JSON text: enough for a number or a plain string.
fn after<'a>(json: &'a str, key: &str) -> &'a str {
    json.split_once(key).map_or("", |(_, rest)| rest.trim_start_matches([' ', ':', '\n', '\t']))
}

fn links(dir: &str) -> Object {
    let mut object = Object::new();
    let mut names: Vec<_> = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    for name in names {
        let name = name.to_string_lossy();
        if let Ok(target) = fs::read_link(format!("{dir}/{name}")) {
            object.text(&name, &target.to_string_lossy());
        }
    }
    object
}

/// A JSON object as it is being written.
struct Object(String);

impl Object {
    fn new() -> Self {
        Object("{".to_string())
    }

    fn key(&mut self, key: &str) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        quote(&mut self.0, key);
        self.0.push(':');
    }

    fn text(&mut self, key: &str, text: &str) {
        self.key(key);
        quote(&mut self.0, text);
    }

    fn texts(&mut self, key: &str, texts: impl Iterator<Item = String>) {
        self.key(key);
        self.0.push('[');
        for (index, text) in texts.enumerate() {
            if index > 0 {
                self.0.push(',');
            }
            quote(&mut self.0, &text);
        }
        self.0.push(']');
    }

    fn number(&mut self, key: &str, number: i64) {
        self.key(key);
        self.0 += &number.to_string();
    }

    fn truth(&mut self, key: &str, truth: bool) {
        self.key(key);
        self.0 += if truth { "true" } else { "false" };
    }

    fn object(&mut self, key: &str, object: Object) {
        self.key(key);
        self.0 += &object.end();
    }

    fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

fn quote(json: &mut String, text: &str) {
    json.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => json.extend(['\\', c]),
            c if c < ' ' => *json += &format!("\\u{:04x}", c as u32),
            c => json.push(c),
        }
    }
    json.push('"');
}
