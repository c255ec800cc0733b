// SPDX-License-Identifier: Apache-2.0
//! Where messages go: `--log`, `--log-format`, `--log-level`, `--debug`.
//!
//! Engines read the log: on failure it gets exactly one JSON object with `level`, `msg` and `time`, in one write(2) to a file opened for
//! appending, and nothing below an error unless it was asked for. Writing the log never fails the operation.

use std::fmt;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;

use crate::error::{Error, Side};
use crate::linux::socket;
use crate::linux::types::errno_name;

/// How much is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Only why the command failed.
    #[default]
    Error,
    /// What the user should know although it is no error.
    Warning,
    /// Every step.
    Debug,
}

impl Level {
    /// The level of this name.
    pub fn parse(name: &str) -> Option<Level> {
        match name {
            "error" => Some(Level::Error),
            "warning" | "warn" | "info" => Some(Level::Warning),
            "debug" | "trace" => Some(Level::Debug),
            _ => None,
        }
    }
    /// The number that syslog and the journal have for it (syslog(3)).
    fn priority(self) -> u8 {
        match self {
            Level::Error => 3,
            Level::Warning => 4,
            Level::Debug => 7,
        }
    }
    fn name(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Debug => "debug",
        }
    }
}

/// Where messages go: `--log`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// stderr
    #[default]
    Stderr,
    /// `FILE` or `file:FILE`
    File(String),
    /// `journald:NAME`: systemd's journal (systemd.journal-fields(7)), under this SYSLOG_IDENTIFIER.
    Journal(String),
    /// `syslog:NAME`: syslog(3), under this name.
    Syslog(String),
}

impl Target {
    /// Reads the value of `--log`.
    pub fn parse(text: &str) -> Target {
        match text.split_once(':') {
            _ if text.is_empty() => Target::Stderr,
            Some(("file", path)) => Target::File(path.to_string()),
            Some(("journald", name)) => Target::Journal(name.to_string()),
            Some(("syslog", name)) => Target::Syslog(name.to_string()),
            _ => Target::File(text.to_string()),
        }
    }
}

/// Where messages go, and which.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// Where.
    pub target: Target,
    /// One JSON object a line, instead of text.
    pub json: bool,
    /// How much is said.
    pub level: Level,
}

impl Log {
    /// Says something that is no failure, where this much is wanted.
    pub fn say(&self, level: Level, text: &str) {
        if level <= self.level {
            // A word that is no failure may be lost with its log.
            let _ = self.write(level, text, None);
        }
    }

    /// Says why the command failed: to the log, and in plain words to stderr.
    pub fn failure(&self, error: &Error, prefix: &str) {
        // The command ends with this, and where it has come to its end for want of a descriptor, the log needs one.
        drop(crate::linux::exe::take_mount());
        let text = with_code(&format!("{prefix}{error}"), error);
        // As runc has it: a person at a terminal reads plain words, and so does whoever has given us a log besides; what is piped into
        // somebody else's log is a record of one line.
        let record = self.target != Target::Stderr || self.json || !std::io::stderr().is_terminal();
        let written = if record { self.write(Level::Error, &text, Some(error)) } else { Ok(()) };
        if self.target != Target::Stderr || !record {
            let _ = writeln!(std::io::stderr(), "{text}");
            // Whoever looks for the log in vain must learn why; to lose it is not the container's fault, and changes nothing else.
            if let Err(why) = written {
                let _ = writeln!(std::io::stderr(), "this is not in the log {}: {} (--log)", self.target, why);
            }
        }
    }

    fn record(&self, level: Level, text: &str, error: Option<&Error>) -> String {
        let time = crate::linux::time::now().rfc3339_seconds();
        if !self.json {
            return format!("time=\"{time}\" level={} msg={}\n", level.name(), quoted(text));
        }
        let mut object = serde_json::Map::new();
        object.insert("level".into(), level.name().into());
        object.insert("msg".into(), text.into());
        object.insert("time".into(), time.into());
        if let Some(error) = error {
            explain(error, &mut object);
        }
        format!("{}\n", serde_json::Value::Object(object))
    }

    /// One write(2), or one datagram; a full disk, a closed pipe or a log service that is down is not the container's fault.
    #[allow(clippy::disallowed_types, reason = "the caller's log: his path, his umask, opened for appending alone")]
    fn write(&self, level: Level, text: &str, error: Option<&Error>) -> std::io::Result<()> {
        match &self.target {
            Target::Stderr => std::io::stderr().write_all(self.record(level, text, error).as_bytes()),
            Target::File(path) => {
                // A FIFO without a reader must not hold the command up.
                let flags = libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOCTTY;
                let mut file =
                    std::fs::OpenOptions::new().append(true).create(true).mode(0o644).custom_flags(flags).open(path)?;
                file.write_all(self.record(level, text, error).as_bytes())
            }
            Target::Journal(name) => socket::send_datagram("/run/systemd/journal/socket", &journal_entry(level, name, text))
                .map_err(|error| error.errno.into()),
            Target::Syslog(name) => {
                // Facility 3: system daemons.
                let entry = format!("<{}>{name}: {text}", 3 << 3 | level.priority());
                socket::send_datagram("/dev/log", entry.as_bytes()).map_err(|error| error.errno.into())
            }
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Stderr => f.write_str("on stderr"),
            Target::File(path) => write!(f, "{path:?}"),
            Target::Journal(name) => write!(f, "journald:{name}"),
            Target::Syslog(name) => write!(f, "syslog:{name}"),
        }
    }
}

/// The text as logrus quotes it (Go's %q): one line, and nothing in it that a terminal would obey.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The message with the advice that its code gives, where it has none of its own, and with the code itself: at the end of the first line,
/// because what follows that is help.
fn with_code(text: &str, error: &Error) -> String {
    let (line, rest) = text.split_at(text.find('\n').unwrap_or(text.len()));
    let code = error.code().name();
    match error.advice().filter(|_| error.hint.is_none()) {
        Some(advice) => format!("{line}; hint: {advice} [{code}]{rest}"),
        None => format!("{line} [{code}]{rest}"),
    }
}

/// What is known of a failure, each in a field of its own, so that nobody has to search the message for it.
fn explain(error: &Error, object: &mut serde_json::Map<String, serde_json::Value>) {
    object.insert("code".into(), error.code().name().into());
    let mut text = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            object.insert(name.into(), value.into());
        }
    };
    text("config", error.config.clone());
    text("syscall", error.call.clone());
    text("errno", error.errno.map(|errno| errno_name(errno).to_string()));
    text("hint", error.advice().map(String::from));
    if let Some((number, total)) = error.step {
        let side = if error.side == Side::Runtime { "runtime" } else { "process" };
        object.insert("step".into(), number.into());
        object.insert("steps".into(), total.into());
        object.insert("plan".into(), side.into());
    }
}

/// An entry in systemd's native protocol. The message's length is given, so that it may have lines.
fn journal_entry(level: Level, name: &str, text: &str) -> Vec<u8> {
    let one_line = |text: &str| text.replace('\n', " ");
    let mut entry = format!("PRIORITY={}\nSYSLOG_IDENTIFIER={}\nMESSAGE\n", level.priority(), one_line(name)).into_bytes();
    entry.extend((text.len() as u64).to_le_bytes());
    entry.extend(text.as_bytes());
    entry.push(b'\n');
    entry
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn a_failure_is_one_json_object_that_engines_can_read() {
        let log = Log { json: true, ..Log::default() };
        let error = Error::new(Kind::NotFound, "container does not exist").at("x\n\"y\"");
        let record = log.record(Level::Error, &error.to_string(), Some(&error));
        assert_eq!(record.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&record).unwrap();
        assert_eq!(value["level"], "error");
        assert_eq!(value["code"], "E-NOTFOUND");
        assert!(value["time"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn text_records_are_one_line() {
        let record = Log::default().record(Level::Warning, "a \"b\"\n\u{1b}[31mé\\", None);
        assert!(
            record.starts_with("time=\"20") && record.ends_with(" level=warning msg=\"a \\\"b\\\"\\n\\x1b[31mé\\\\\"\n"),
            "{record}"
        );
    }

    #[test]
    fn a_failure_says_all_that_is_known_in_fields_of_their_own() {
        let log = Log { json: true, ..Log::default() };
        let error = Error::new(Kind::Kernel, "cannot mount")
            .at("mounts[3].options[1]")
            .call("fsconfig(7, FSCONFIG_SET_STRING, \"size\", \"x\", 0)", crate::linux::types::Errno::EINVAL)
            .step(7, 41)
            .cause(crate::error::Code::MountOption);
        let value: serde_json::Value = serde_json::from_str(&log.record(Level::Error, "m", Some(&error))).unwrap();
        for (field, wanted) in [
            ("code", serde_json::json!("E-MOUNT-OPTION")),
            ("config", "mounts[3].options[1]".into()),
            ("syscall", "fsconfig(7, FSCONFIG_SET_STRING, \"size\", \"x\", 0)".into()),
            ("errno", "EINVAL".into()),
            ("step", 7.into()),
            ("steps", 41.into()),
            ("plan", "process".into()),
            ("hint", crate::error::Code::MountOption.entry().hint.into()),
        ] {
            assert_eq!(value[field], wanted, "{field}");
        }
    }

    #[test]
    fn the_code_ends_the_message_and_not_the_help_below_it() {
        assert_eq!(with_code("no command\n\nusage", &Error::new(Kind::Usage, "")), "no command [E-USAGE]\n\nusage");
        let error = Error::new(Kind::Status, "container not running");
        assert_eq!(
            with_code(&error.to_string(), &error),
            "container not running; hint: `berth state ID` shows its status [E-STATUS]"
        );
        let error = error.hint("mine");
        assert_eq!(with_code(&error.to_string(), &error), "container not running; hint: mine [E-STATUS]");
    }

    #[test]
    fn targets() {
        assert_eq!(Target::parse("/a:b"), Target::File("/a:b".into()));
        assert_eq!(Target::parse("file:/a"), Target::File("/a".into()));
        assert_eq!(Target::parse("journald:x"), Target::Journal("x".into()));
        assert_eq!(Target::parse("syslog:x"), Target::Syslog("x".into()));
        assert_eq!(Target::parse(""), Target::Stderr);
        let entry = journal_entry(Level::Error, "x", "a\nb");
        assert_eq!(entry, b"PRIORITY=3\nSYSLOG_IDENTIFIER=x\nMESSAGE\n\x03\0\0\0\0\0\0\0a\nb\n");
    }
}
