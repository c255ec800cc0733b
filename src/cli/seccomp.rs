// SPDX-License-Identifier: Apache-2.0
//! `seccomp explain` and `seccomp record`: their words, and what they print.

use serde_json::{Value, json};

use super::given::Given;
use super::request;
use crate::container::bundle;
use crate::error::{Error, Kind, Result, Told};
use crate::linux::fd;
use crate::linux::types::{Errno, errno_name};
use crate::plan::seccomp::Action;
use crate::plan::seccomp_explain::{self, Answer, Case, Question};
use crate::plan::seccomp_record::{self, Called};
use crate::spec::Problem;
use crate::spec::seccomp_file::{self, SeccompFile};
use crate::spec::write;

/// Largest profile that is read.
const MOST: usize = 32 << 20;

/// `seccomp explain PROFILE SYSCALL [ARG...]`
pub fn explain(args: &Given, json: bool, kernel: (u16, u16)) -> Result<String> {
    let [path, syscall, values @ ..] = args.all("rest") else {
        return Err(Error::new(Kind::Usage, "seccomp explain: which PROFILE, and which SYSCALL?")
            .hint("`seccomp explain config.json clone` or `seccomp explain profile.json openat -100 0 0x241`"));
    };
    let values: Vec<u64> = values.iter().map(|word| argument(word)).collect::<Result<_>>()?;
    if values.len() > 6 {
        return Err(Error::new(Kind::Usage, "seccomp explain: a system call has six arguments at most"));
    }
    let Some(file) = read(path)? else {
        return Ok(match json {
            true => format!("{:#}\n", json!({ "syscall": syscall, "profile": null })),
            false => format!("{path} has no seccomp profile: every system call is allowed\n"),
        });
    };
    let question = Question { syscall, arch: args.text("arch"), args: &values, caps: args.all("cap"), kernel };
    let answer = seccomp_explain::answer(&file, &question).map_err(|problems| refused(path, problems))?;
    Ok(if json { as_json(&answer) } else { as_text(&answer) })
}

fn read(path: &str) -> Result<Option<SeccompFile>> {
    let bytes = fd::read_file_bounded(path, MOST).told(|| format!("cannot read the profile {path}"))?;
    seccomp_file::parse(&bytes).map_err(|problems| refused(path, problems))
}

fn refused(path: &str, problems: Vec<Problem>) -> Error {
    match &problems[..] {
        // A word of the command line.
        [problem] if ["SYSCALL", "--arch"].contains(&problem.at.as_str()) => {
            Error::new(Kind::Usage, format!("{}: {}", problem.at, problem.rule))
        }
        _ => bundle::refused(path, problems),
    }
}

/// A number as in C: decimal, 0x hexadecimal or 0 octal; negative ones as the kernel has them.
fn argument(word: &str) -> Result<u64> {
    let (negative, digits) = word.strip_prefix('-').map_or((false, word), |digits| (true, digits));
    let parsed = match digits {
        _ if digits.starts_with("0x") => u64::from_str_radix(&digits[2..], 16),
        _ if digits.len() > 1 && digits.starts_with('0') => u64::from_str_radix(&digits[1..], 8),
        _ => digits.parse(),
    };
    let number = parsed.map_err(|_| Error::new(Kind::Usage, format!("ARG: \"{}\" is no number", word.escape_debug())))?;
    Ok(if negative { number.wrapping_neg() } else { number })
}

fn as_text(answer: &Answer) -> String {
    let mut out = format!("{} ({} on {}): ", answer.name, answer.number, answer.arch.oci_name());
    match &answer.cases[..] {
        [only] => out.push_str(&format!("{}\n", one(only))),
        several => {
            out.push_str("depends on its arguments\n");
            several.iter().for_each(|case| out.push_str(&format!("  {}\n", one(case))));
        }
    }
    for (rule, why) in &answer.left_out {
        out.push_str(&format!("left out: {rule} is not for this container: {why}\n"));
    }
    out
}

fn one(case: &Case) -> String {
    let conditions = match &case.conditions[..] {
        [] => String::new(),
        all => format!(", where {}", all.join(" and ")),
    };
    format!("{} by {}{conditions}", case.action_text(), case.by)
}

fn as_json(answer: &Answer) -> String {
    let case = |case: &Case| {
        let mut object = json!({ "action": case.action.oci_name(), "by": case.by, "where": case.conditions });
        if let Action::Errno(errno) = case.action {
            object["errno"] = errno.into();
            object["errnoName"] = errno_name(Errno::from_raw(i32::from(errno))).into();
        }
        object
    };
    let left_out = |(rule, why): &(String, String)| json!({ "rule": rule, "why": why });
    let value = json!({
        "syscall": answer.name,
        "number": answer.number,
        "architecture": answer.arch.oci_name(),
        "decided": answer.cases.len() == 1,
        "cases": answer.cases.iter().map(case).collect::<Vec<Value>>(),
        "leftOut": answer.left_out.iter().map(left_out).collect::<Vec<Value>>(),
    });
    format!("{value:#}\n")
}

/// Writes the profile of a recorded run: what is to be printed, on stdout and on stderr, and what cannot be in it.
pub fn save(args: &Given, calls: &[Called]) -> Result<(String, String, Vec<String>)> {
    let path = output(args);
    let before = match args.on("add") && path != "-" && fd::exists(path) {
        true => read(path)?.map(|file| seccomp_record::allowed(&file.seccomp)).unwrap_or_default(),
        false => Vec::new(),
    };
    let old = before.len();
    let recorded = seccomp_record::profile(calls, before);
    let mut text = write::to_json(&recorded.seccomp, "  ").unwrap_or_default();
    text.push(b'\n');
    let unnamed = recorded.unnamed.iter().map(|call| format!("the profile cannot name system call {call}")).collect();
    if path == "-" {
        return Ok((String::from_utf8_lossy(&text).into_owned(), String::new(), unnamed));
    }
    let full = request::absolute(path)?;
    let (dir, name) = full.rsplit_once('/').unwrap_or(("", &full));
    let told = || format!("cannot write the profile {path}");
    let dir = fd::open_dir_path(if dir.is_empty() { "/" } else { dir }).told(told)?;
    fd::publish_file(&dir, name, &text, 0o644).told(told)?;
    let count = seccomp_record::allowed(&recorded.seccomp).len();
    let new = if old == 0 { String::new() } else { format!(", {} of them new", count.saturating_sub(old)) };
    Ok((String::new(), format!("{path} allows {count} system calls{new}\n"), unnamed))
}

/// Where the profile goes.
fn output(args: &Given) -> &str {
    args.text("output").filter(|path| !path.is_empty()).unwrap_or("seccomp.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_written_as_in_c() {
        let all = ["7", "0x1F", "0644", "-100", "-1", "0", "18446744073709551615"].map(|word| argument(word).unwrap());
        assert_eq!(all, [7, 31, 0o644, u64::MAX - 99, u64::MAX, 0, u64::MAX]);
        assert!(["", "x", "0x", "1.5", "AT_FDCWD", "18446744073709551616"].iter().all(|word| argument(word).is_err()));
    }
}
