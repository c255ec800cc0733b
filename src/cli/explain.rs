// SPDX-License-Identifier: Apache-2.0
//! `explain`: what a code of an error means. docs/errors.md is written from the same table.

use crate::error::codes::{CODES, Code, Entry};
use crate::error::{Error, Kind, Result};

/// What is known of the code of this name, in words; of all of them, a line each, without a name.
pub fn text(name: Option<&str>) -> Result<String> {
    match name {
        Some(name) => find(name).map(|entry| one(&entry)),
        None => Ok(entries().map(|entry| format!("{:<22}{}\n", entry.name, entry.title)).collect()),
    }
}

/// The same as JSON.
pub fn json(name: Option<&str>) -> Result<String> {
    let object = |entry: &Entry| {
        serde_json::json!({
            "code": entry.name,
            "title": entry.title,
            "cause": entry.cause,
            "check": entry.check,
            "mend": entry.mend,
        })
    };
    let value = match name {
        Some(name) => object(&find(name)?),
        None => entries().map(|entry| object(&entry)).collect(),
    };
    Ok(format!("{value:#}\n"))
}

fn entries() -> impl Iterator<Item = Entry> {
    CODES.iter().map(|code| code.entry())
}

fn find(name: &str) -> Result<Entry> {
    match Code::parse(name) {
        Some(code) => Ok(code.entry()),
        None => Err(Error::new(Kind::Usage, format!("there is no code \"{}\"", name.escape_debug()))
            .hint("`explain` without a code lists them all")),
    }
}

fn one(entry: &Entry) -> String {
    let Entry { name, title, cause, check, mend, .. } = entry;
    format!("{name}: {title}\n\nCause\n{}\nHow to check\n{}\nHow to mend\n{}", wrapped(cause), wrapped(check), wrapped(mend))
}

/// In lines of at most 80 columns, indented.
fn wrapped(text: &str) -> String {
    const WIDTH: usize = 80;
    let mut out = String::new();
    let mut line = String::new();
    for word in text.split(' ') {
        if !line.is_empty() && line.chars().count() + word.chars().count() + 3 > WIDTH {
            out.push_str(&format!("  {line}\n"));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    format!("{out}  {line}\n")
}

/// docs/errors.md.
#[cfg(test)]
fn page() -> String {
    let head = "# Errors\n\n\
        <!-- Written from src/error/codes.rs: change that, then run `BLESS=1 cargo test errors_page`. -->\n\n\
        Every failure is one line on stderr, and with `--log FILE --log-format json` one JSON object in that file:\n\n\
        ```\n\
        create failed: cannot mount \"tmpfs\" at /tmp (mounts[3].options[1]): fsconfig(7, FSCONFIG_SET_STRING, \"size\", \"lots\"):\n\
        tmpfs: Bad value for 'size' = invalid argument (EINVAL) [step 12 of 41 of the container's process]; hint: … [E-MOUNT-OPTION]\n\
        ```\n\n\
        | field | what it is |\n|---|---|\n\
        | `level`, `msg`, `time` | as runc writes them: `error`, the whole line, RFC 3339 |\n\
        | `code` | one of the codes below; a code keeps its meaning for good |\n\
        | `config` | the JSON path of the field that asked for what failed |\n\
        | `syscall`, `errno` | the system call as strace(1) prints it, and the kernel's answer |\n\
        | `step`, `steps`, `plan` | which step of how many, and whose: `runtime` or `process`; `berth plan` prints both lists |\n\
        | `hint` | what to do |\n\n\
        Fields about which nothing is known are left out. `berth explain CODE` prints what stands here.\n";
    let section = |entry: &Entry| {
        let Entry { name, title, cause, check, mend, .. } = entry;
        format!("\n## {name}\n\n{title}\n\n**Cause.** {cause}\n\n**How to check.** {check}\n\n**How to mend.** {mend}\n")
    };
    entries().fold(head.to_string(), |page, entry| page + &section(&entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_page_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/errors.md");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(path, page()).unwrap();
        }
        let held = std::fs::read_to_string(path).unwrap_or_default();
        assert!(held == page(), "docs/errors.md is not what src/error/codes.rs says: BLESS=1 cargo test errors_page");
    }

    #[test]
    fn a_code_is_found_however_it_is_written_and_others_are_refused() {
        for name in ["E-NOEXEC", "e-noexec", "noexec"] {
            assert!(text(Some(name)).unwrap().starts_with("E-NOEXEC: The program lies on a mount"), "{name}");
        }
        assert_eq!(text(Some("E-NOTHING")).unwrap_err().to_string().split(';').next(), Some("there is no code \"E-NOTHING\""));
        assert_eq!(text(None).unwrap().lines().count(), CODES.len());
    }

    #[test]
    fn explanations_fit_a_terminal() {
        for entry in entries() {
            let text = one(&entry);
            assert!(text.lines().skip(1).all(|line| line.chars().count() <= 80), "{text}");
            assert!(text.contains("\nHow to mend\n  "), "{text}");
        }
    }

    #[test]
    fn json_can_be_read_back() {
        let all: serde_json::Value = serde_json::from_str(&json(None).unwrap()).unwrap();
        assert_eq!(all.as_array().unwrap().len(), CODES.len());
        let one: serde_json::Value = serde_json::from_str(&json(Some("E-OOM")).unwrap()).unwrap();
        assert_eq!((&one["code"], &one["cause"]), (&"E-OOM".into(), &Code::Oom.entry().cause.into()));
    }
}
