// SPDX-License-Identifier: Apache-2.0
//! Tables and JSON, in the shapes that runc's readers expect.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::cgroup::oom::Lack;
use crate::cgroup::stats::{Psi, Stats};
use crate::container::diff::Compared;
use crate::container::events::Event;
use crate::container::state::Shown;
use crate::error::{Error, Kind, Result};
use crate::plan::{Id, Plan, json};
use crate::spec::features::Features;
use crate::spec::types::{Mount, Spec};

/// `state`: indented by two spaces, without a newline at the end.
pub fn state(shown: &Shown) -> String {
    serde_json::to_string_pretty(shown).unwrap_or_default()
}

/// `spec`: indented by tabs, with a newline at the end.
pub fn config(spec: &Spec) -> String {
    let mut out = Vec::new();
    let mut writer = serde_json::Serializer::with_formatter(&mut out, serde_json::ser::PrettyFormatter::with_indent(b"\t"));
    // Writing plain values to memory cannot fail.
    let _ = spec.serialize(&mut writer);
    out.push(b'\n');
    String::from_utf8_lossy(&out).into_owned()
}

/// `mounts list`: as in a config.json, indented, with a newline at the end.
pub fn mounts(all: &[Mount]) -> String {
    format!("{}\n", serde_json::to_string_pretty(all).unwrap_or_default())
}

/// `list --format json`: one line; `null` for none.
pub fn list_json(all: &[Shown]) -> String {
    match all {
        [] => "null\n".to_string(),
        all => format!("{}\n", serde_json::to_string(all).unwrap_or_default()),
    }
}

/// `list`: columns of at least twelve characters, three apart.
pub fn list_table(all: &[Shown]) -> String {
    let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(String::from)];
    for one in all {
        rows.push([&one.id, &one.pid.to_string(), one.status, &one.bundle, &one.created, &one.owner].map(String::from));
    }
    table(&rows)
}

/// `list --quiet`: an id a line.
pub fn list_ids(ids: &[String]) -> String {
    ids.iter().map(|id| format!("{id}\n")).collect()
}

/// `features`: indented, with a newline at the end.
pub fn features(document: &Features) -> String {
    format!("{}\n", serde_json::to_string_pretty(document).unwrap_or_default())
}

/// A line of `events`, its members in runc's order.
#[derive(Serialize)]
struct EventLine<'a, T> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<T>,
}

/// Counts, with the members that are always there in runc's schema.
#[derive(Serialize)]
struct StatsData<'a> {
    #[serde(flatten)]
    stats: &'a Stats,
    intel_rdt: BTreeMap<String, String>,
    /// Always null: the network belongs to whoever made it.
    network_interfaces: Option<()>,
}

#[derive(Serialize)]
struct PressureData<'a> {
    resource: &'static str,
    psi: &'a Psi,
}

/// What a container had when the kernel killed for lack of memory, in the places that the same numbers have in the counts.
#[derive(Serialize)]
struct OomData {
    memory: OomMemory,
}

#[derive(Serialize)]
struct OomMemory {
    usage: OomUsage,
}

#[derive(Serialize)]
struct OomUsage {
    limit: u64,
    max: u64,
    failcnt: u64,
}

impl From<Lack> for OomData {
    fn from(lack: Lack) -> OomData {
        let usage = OomUsage { limit: lack.limit.unwrap_or(u64::MAX), max: lack.peak.unwrap_or(0), failcnt: lack.reached };
        OomData { memory: OomMemory { usage } }
    }
}

/// `events`: one line for each.
pub fn event(id: &Id, event: &Event) -> String {
    fn line<T: Serialize>(kind: &'static str, id: &Id, data: Option<T>) -> String {
        format!("{}\n", serde_json::to_string(&EventLine { kind, id: id.as_str(), data }).unwrap_or_default())
    }
    match event {
        Event::Stats(stats) => line("stats", id, Some(StatsData { stats, intel_rdt: BTreeMap::new(), network_interfaces: None })),
        Event::Oom(lack) => line("oom", id, lack.map(OomData::from)),
        Event::Pressure(resource, psi) => line("pressure", id, Some(PressureData { resource: resource.name(), psi })),
    }
}

/// `plan --format json`
pub fn plan_json(plan: &Plan) -> String {
    format!("{:#}\n", json::value(plan))
}

/// `plan --diff`: what differs, asked above now, and how much was compared; with `all` what does not differ too.
pub fn diff_text(compared: &[Compared], all: bool) -> String {
    let mut out = String::new();
    for one in compared {
        let at = if one.at.is_empty() { String::new() } else { format!(" ({})", one.at) };
        match &one.now {
            Some(now) if !one.same => {
                out.push_str(&format!("{}{at}\n- {}\n+ {}\n", one.what, one.asked, now.replace('\n', "; ")))
            }
            Some(_) if all => out.push_str(&format!("{}{at}\n  {}\n", one.what, one.asked)),
            None if all => out.push_str(&format!("{}{at}\n- {}\n? cannot be seen\n", one.what, one.asked)),
            _ => {}
        }
    }
    let (different, unseen) = counts(compared);
    let unseen = if unseen == 0 { String::new() } else { format!(", {unseen} cannot be seen") };
    out + &format!("{different} of {} differ{unseen}\n", compared.len())
}

/// `plan --diff --format json`: everything that was compared.
pub fn diff_json(compared: &[Compared]) -> String {
    let one = |one: &Compared| {
        let mut object = serde_json::json!({ "what": one.what, "asked": one.asked, "now": one.now, "same": one.same });
        if !one.at.is_empty() {
            object["config"] = one.at.as_str().into();
        }
        object
    };
    let (different, unseen) = counts(compared);
    let all: Vec<_> = compared.iter().map(one).collect();
    format!("{:#}\n", serde_json::json!({ "different": different, "unseen": unseen, "compared": all }))
}

fn counts(compared: &[Compared]) -> (usize, usize) {
    let different = compared.iter().filter(|one| !one.same).count();
    (different, compared.iter().filter(|one| one.now.is_none()).count())
}

/// `ps --format json`: `[1,2]`, or `null` for none.
pub fn pids_json(pids: &[i32]) -> String {
    match pids {
        [] => "null\n".to_string(),
        pids => format!("{}\n", serde_json::to_string(pids).unwrap_or_default()),
    }
}

/// `ps`: the lines of ps(1) whose PID column is one of the container's processes, below their heading.
pub fn process_table(ps: &str, pids: &[i32]) -> Result<String> {
    let mut lines = ps.lines();
    let heading = lines.next().unwrap_or_default();
    let column = heading.split_whitespace().position(|name| name == "PID");
    let column = column.ok_or_else(|| Error::new(Kind::Usage, "ps printed no column PID: leave out options that remove it"))?;
    let ours = |line: &&str| {
        let pid = line.split_whitespace().nth(column).and_then(|word| word.parse().ok());
        pid.is_some_and(|pid: i32| pids.contains(&pid))
    };
    Ok(std::iter::once(heading).chain(lines.filter(ours)).map(|line| format!("{line}\n")).collect())
}

fn table<const N: usize>(rows: &[[String; N]]) -> String {
    table_of(rows, 12)
}

/// A table whose columns are as narrow as they can be.
pub(super) fn narrow_table<const N: usize>(rows: &[[String; N]]) -> String {
    table_of(rows, 0)
}

fn table_of<const N: usize>(rows: &[[String; N]], least: usize) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count() + 3).max().unwrap_or(0).max(least);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut out = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            out.push_str(cell);
            if column + 1 < N {
                out.extend(std::iter::repeat_n(' ', widths[column].saturating_sub(cell.chars().count())));
            }
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_of_the_container_only() {
        let ps = "UID   PID  CMD\nroot    1  init\nroot   42  sleep 42\nroot  421  x\n";
        assert_eq!(process_table(ps, &[42]).unwrap(), "UID   PID  CMD\nroot   42  sleep 42\n");
        assert!(process_table("CMD\nx\n", &[1]).is_err());
        assert_eq!(pids_json(&[]), "null\n");
        assert_eq!(pids_json(&[1, 2]), "[1,2]\n");
    }

    #[test]
    fn events_in_the_order_of_their_readers() {
        let id = Id::parse("x").unwrap();
        assert_eq!(event(&id, &Event::Oom(None)), "{\"type\":\"oom\",\"id\":\"x\"}\n");
        let lack = Lack { kills: 1, reached: 3, limit: Some(4096), peak: None };
        let data = r#"{"memory":{"usage":{"limit":4096,"max":0,"failcnt":3}}}"#;
        assert_eq!(event(&id, &Event::Oom(Some(lack))), format!("{{\"type\":\"oom\",\"id\":\"x\",\"data\":{data}}}\n"));
        let text = event(&id, &Event::Stats(Box::default()));
        let wanted = "{\"type\":\"stats\",\"id\":\"x\",\"data\":{\"cpu\":{\"usage\":{\"kernel\":0,\"user\":0},\"throttling\":{}},\"cpuset\":{";
        assert!(text.starts_with(wanted) && text.ends_with("\"intel_rdt\":{},\"network_interfaces\":null}}\n"), "{text}");
    }

    #[test]
    fn differences_are_shown_as_diff_does() {
        let one = |what: &str, now: Option<&str>, same| Compared {
            what: what.into(),
            asked: "1".into(),
            now: now.map(String::from),
            at: "a.b".into(),
            same,
        };
        let all = [one("x", Some("1"), true), one("y", Some("2"), false), one("z", None, true)];
        assert_eq!(diff_text(&all, false), "y (a.b)\n- 1\n+ 2\n1 of 3 differ, 1 cannot be seen\n");
        assert!(diff_text(&all, true).starts_with("x (a.b)\n  1\n"));
        let json: serde_json::Value = serde_json::from_str(&diff_json(&all)).unwrap();
        assert_eq!((&json["different"], &json["compared"][1]["now"]), (&1.into(), &"2".into()));
        assert!(json["compared"][2]["now"].is_null());
    }

    #[test]
    fn columns_line_up() {
        let rows = [["ID", "PID"].map(String::from), ["a-long-identifier", "1"].map(String::from)];
        assert_eq!(table(&rows), "ID                  PID\na-long-identifier   1\n");
    }
}
