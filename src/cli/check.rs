// SPDX-License-Identifier: Apache-2.0
//! `check`: whether containers, or the container of a bundle, can be made on this host, and what to do where not.

use serde_json::{Value, json};

use crate::plan::check::{Finding, Survey, Verdict, worst};

/// Exit status: everything works, something degrades, something fails.
pub fn status(found: &[Finding]) -> u8 {
    match worst(found) {
        Verdict::Works => 0,
        Verdict::Fails => 1,
        Verdict::Degrades => 3,
    }
}

/// In words: a line for each thing that was found, its remedy below it, and the result at the end.
pub fn text(found: &[Finding], quiet: bool) -> String {
    let mut out = String::new();
    let width = found.iter().map(|finding| finding.what.chars().count()).max().unwrap_or(0);
    for finding in found.iter().filter(|finding| !quiet || finding.verdict != Verdict::Works) {
        let Finding { verdict, what, why, remedy, code, at } = finding;
        out.push_str(&format!("{:<8}  {what:<width$}  {why}", verdict.name()));
        if !at.is_empty() {
            out.push_str(&format!(" ({at})"));
        }
        if let Some(code) = code {
            out.push_str(&format!(" [{}]", code.name()));
        }
        out.push('\n');
        if !remedy.is_empty() {
            out.push_str(&format!("{:8}  {:width$}  remedy: {remedy}\n", "", ""));
        }
    }
    let count = |verdict| found.iter().filter(|finding| finding.verdict == verdict).count();
    let (works, degrades, fails) = (count(Verdict::Works), count(Verdict::Degrades), count(Verdict::Fails));
    out + &format!("result: {}: {works} work, {degrades} degrade, {fails} fail\n", worst(found).name())
}

/// The same as JSON, with the facts of the host that say most.
pub fn json(survey: &Survey, found: &[Finding], quiet: bool) -> String {
    let finding = |finding: &Finding| {
        let Finding { verdict, what, why, remedy, code, at } = finding;
        let mut object = json!({ "verdict": verdict.name(), "what": what, "why": why });
        let mut more = |name: &str, value: &str| {
            if !value.is_empty() {
                object[name] = value.into();
            }
        };
        more("remedy", remedy);
        more("code", code.map_or("", |code| code.name()));
        more("config", at);
        object
    };
    let shown = found.iter().filter(|finding| !quiet || finding.verdict != Verdict::Works);
    let host = &survey.host;
    let value = json!({
        "result": worst(found).name(),
        "host": {
            "kernel": format!("{}.{}", host.kernel.major, host.kernel.minor),
            "uid": host.euid,
            "initialUserNamespace": host.initial_user_namespace,
            "cgroup": format!("{:?}", host.cgroup).to_lowercase(),
            "controllers": host.v2_controllers,
            "apparmor": host.apparmor,
            "selinux": host.selinux,
        },
        "findings": shown.map(finding).collect::<Vec<Value>>(),
    });
    format!("{value:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    fn found() -> Vec<Finding> {
        let one = |verdict, what: &str, code, at: &str| Finding {
            verdict,
            what: what.into(),
            why: "because".into(),
            remedy: if verdict == Verdict::Works { String::new() } else { "do this".into() },
            code,
            at: at.into(),
        };
        vec![
            one(Verdict::Works, "kernel", None, ""),
            one(Verdict::Degrades, "cgroups", Some(Code::CgroupAbsent), ""),
            one(Verdict::Fails, "program", Some(Code::Interpreter), "process.args[0]"),
        ]
    }

    #[test]
    fn reads_as_a_table_with_remedies() {
        let expected = "works     kernel   because\n\
                        degrades  cgroups  because [E-NO-CGROUP]\n                   remedy: do this\n\
                        fails     program  because (process.args[0]) [E-INTERPRETER]\n                   remedy: do this\n\
                        result: fails: 1 work, 1 degrade, 1 fail\n";
        assert_eq!(text(&found(), false), expected);
        assert!(!text(&found(), true).contains("kernel"));
    }

    #[test]
    fn the_worst_is_the_exit_status() {
        assert_eq!(status(&found()), 1);
        assert_eq!(status(&found()[..2]), 3);
        assert_eq!(status(&found()[..1]), 0);
        assert_eq!(status(&[]), 0);
    }
}
