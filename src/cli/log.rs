// SPDX-License-Identifier: Apache-2.0
//! Where messages go: `--log`, `--log-format`, `--log-level`, `--debug`.
//!
//! Engines read the log: on failure it gets exactly one JSON object with `level`, `msg` and `time`, in one write(2) to a file opened for
//! appending, and nothing below an error unless it was asked for. Writing the log never fails the operation.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use crate::error::Error;

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
    fn name(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Debug => "debug",
        }
    }
}

/// Where messages go, and which.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// The file; none for stderr.
    pub file: Option<String>,
    /// One JSON object a line, instead of text.
    pub json: bool,
    /// How much is said.
    pub level: Level,
}

impl Log {
    /// Says something that is no failure, where this much is wanted.
    pub fn say(&self, level: Level, text: &str) {
        if level <= self.level {
            self.write(&self.record(level, text, None));
        }
    }

    /// Says why the command failed: to the log, and in plain words to stderr.
    pub fn failure(&self, error: &Error, prefix: &str) {
        let text = format!("{prefix}{error}");
        if self.file.is_some() {
            self.write(&self.record(Level::Error, &text, Some(error)));
            let _ = writeln!(std::io::stderr(), "{text}");
        } else if self.json {
            self.write(&self.record(Level::Error, &text, Some(error)));
        } else {
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    }

    fn record(&self, level: Level, text: &str, error: Option<&Error>) -> String {
        let time = crate::linux::time::now().rfc3339_seconds();
        if !self.json {
            return format!("time=\"{time}\" level={} msg={:?}\n", level.name(), text);
        }
        let mut object = serde_json::Map::new();
        object.insert("level".into(), level.name().into());
        object.insert("msg".into(), text.into());
        object.insert("time".into(), time.into());
        if let Some(error) = error {
            object.insert("code".into(), error.kind.code().into());
            if let Some(config) = &error.config {
                object.insert("config".into(), config.as_str().into());
            }
            if let Some(errno) = error.errno {
                object.insert("errno".into(), format!("{errno:?}").into());
            }
            if let Some((number, _)) = error.step {
                object.insert("step".into(), number.into());
            }
        }
        format!("{}\n", serde_json::Value::Object(object))
    }

    /// One write(2); a full disk or a closed pipe is not the container's fault.
    fn write(&self, record: &str) {
        let Some(path) = &self.file else {
            let _ = std::io::stderr().write_all(record.as_bytes());
            return;
        };
        // A FIFO without a reader must not hold the command up.
        let flags = libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOCTTY;
        let file = std::fs::OpenOptions::new().append(true).create(true).mode(0o644).custom_flags(flags).open(path);
        if let Ok(mut file) = file {
            let _ = file.write_all(record.as_bytes());
        }
    }
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
}
