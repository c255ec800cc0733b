// SPDX-License-Identifier: Apache-2.0
//! What a probe said: its lines, and the files of /proc in its report taken apart.
use crate::entry::{Outcome, Stop};
use serde_json::Value;
use std::collections::BTreeMap;

/// The lines of one probe, in order.
#[derive(Debug, Default)]
pub struct Seen {
    pub lines: Vec<Value>,
}

/// One line of /proc/self/mountinfo (proc_pid_mountinfo(5)).
#[derive(Debug, Clone)]
pub struct Mount {
    pub target: String,
    /// Options of this mount: ro, nosuid, relatime, idmapped …
    pub options: Vec<String>,
    /// shared:N, master:N, propagate_from:N, unbindable.
    pub propagation: Vec<String>,
    pub kind: String,
    /// Options of the file system: rw, sync, size=… …
    pub super_options: Vec<String>,
}

impl Mount {
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|o| o == option)
    }

    pub fn super_has(&self, option: &str) -> bool {
        self.super_options.iter().any(|o| o == option)
    }

    pub fn propagates(&self, word: &str) -> bool {
        self.propagation.iter().any(|p| p.split(':').next() == Some(word))
    }
}

impl Seen {
    pub fn parse(text: &str) -> Outcome<Seen> {
        let lines = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        Ok(Seen { lines })
    }

    /// The line of this action.
    pub fn of(&self, action: &str) -> Outcome<&Value> {
        self.lines
            .iter()
            .find(|line| line["action"] == action)
            .ok_or_else(|| Stop::Failed(format!("the program in the container never came to do {action:?}")))
    }

    /// The errno that this action met: 0 if none.
    pub fn errno(&self, action: &str) -> Outcome<i64> {
        Ok(self.of(action)?["errno"].as_i64().unwrap_or(-1))
    }

    pub fn report(&self) -> Outcome<&Value> {
        self.of("report")
    }

    /// A text of the report.
    pub fn text(&self, name: &str) -> Outcome<&str> {
        Ok(self.report()?[name].as_str().unwrap_or_default())
    }

    /// A field of /proc/self/status, without its name.
    pub fn status(&self, name: &str) -> Outcome<String> {
        let text = self.text("status")?;
        let field = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        field
            .map(|value| value.trim().to_string())
            .ok_or_else(|| Stop::Failed(format!("no {name} in the container's /proc/self/status")))
    }

    pub fn mounts(&self) -> Outcome<Vec<Mount>> {
        Ok(mounts(self.text("mountinfo")?))
    }

    /// The topmost mount at this place.
    pub fn mount(&self, target: &str) -> Outcome<Mount> {
        self.mounts()?
            .into_iter()
            .rfind(|mount| mount.target == target)
            .ok_or_else(|| Stop::Failed(format!("nothing is mounted at {target} in the container")))
    }

    /// Soft and hard value of a limit, by its name in /proc/self/limits.
    pub fn limit(&self, name: &str) -> Outcome<(String, String)> {
        let line = self.text("limits")?.lines().find_map(|line| line.strip_prefix(name));
        let mut words = line.unwrap_or_default().split_whitespace();
        match (words.next(), words.next()) {
            (Some(soft), Some(hard)) => Ok((soft.to_string(), hard.to_string())),
            _ => Err(Stop::Failed(format!("no {name:?} in the container's /proc/self/limits"))),
        }
    }

    /// Its namespaces: `net` → `net:[4026531840]` …
    pub fn namespaces(&self) -> Outcome<BTreeMap<String, String>> {
        Ok(namespaces(&self.report()?["ns"]))
    }
}

/// The namespaces in a line of the probe, without those for children.
pub fn namespaces(object: &Value) -> BTreeMap<String, String> {
    let entries = object.as_object().into_iter().flatten();
    entries
        .filter(|(name, _)| !name.ends_with("_for_children"))
        .map(|(name, link)| (name.clone(), link.as_str().unwrap_or_default().to_string()))
        .collect()
}

/// Takes a mountinfo apart.
pub fn mounts(text: &str) -> Vec<Mount> {
    let list = |word: &str| word.split(',').map(str::to_string).collect::<Vec<_>>();
    text.lines()
        .filter_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            let before: Vec<&str> = before.split(' ').collect();
            let after: Vec<&str> = after.split(' ').collect();
            Some(Mount {
                target: before.get(4)?.to_string(),
                options: list(before.get(5)?),
                propagation: before.get(6..).unwrap_or_default().iter().map(|word| word.to_string()).collect(),
                kind: after.first()?.to_string(),
                super_options: list(after.last()?),
            })
        })
        .collect()
}
