// SPDX-License-Identifier: Apache-2.0
//! Profiles for the tests.

use super::super::{Action, Arch, Condition, Error, Op, Options, Profile, Program, Rule, compile};
use super::scmp;
use crate::spec::types::CallNames;

/// A profile that owns its names, for tests.
#[derive(Clone, Debug)]
pub(in super::super) struct Owned {
    pub(in super::super) default_action: Action,
    pub(in super::super) architectures: Vec<Arch>,
    pub(in super::super) rules: Vec<(CallNames, Action, Vec<Condition>)>,
}

impl Owned {
    pub(in super::super) fn new(default_action: Action, architectures: &[Arch]) -> Owned {
        Owned { default_action, architectures: architectures.to_vec(), rules: Vec::new() }
    }

    pub(in super::super) fn rule(mut self, names: &[&str], action: Action, args: &[Condition]) -> Owned {
        self.rules.push((names.iter().collect(), action, args.to_vec()));
        self
    }

    pub(in super::super) fn profile(&self) -> Profile<'_> {
        Profile {
            default_action: self.default_action,
            architectures: self.architectures.clone(),
            rules: self.rules.iter().map(|(names, action, args)| Rule { names, action: *action, args: args.clone() }).collect(),
        }
    }

    /// Without the names that the installed libseccomp does not know or places elsewhere.
    pub(in super::super) fn known_to_libseccomp(mut self, native: Arch) -> Owned {
        let arches: Vec<Arch> = self.architectures.iter().copied().chain([native]).collect();
        for (names, ..) in &mut self.rules {
            *names = names.iter().filter(|name| scmp::knows(name, &arches)).collect();
        }
        self
    }

    pub(in super::super) fn compile(&self, options: Options) -> Result<Program, Error> {
        compile(&self.profile(), options)
    }
}

/// Docker's default profile as Docker 28 writes it into a config.json on x86_64.
pub(in super::super) fn docker() -> Owned {
    let config: serde_json::Value = serde_json::from_str(include_str!("../../../spec/fixtures/docker.json")).unwrap();
    let json = &config["linux"]["seccomp"];
    let errno = |v: &serde_json::Value| v.as_u64().map(|n| n as u32);
    fn strings(list: &serde_json::Value) -> impl Iterator<Item = &str> {
        list.as_array().unwrap().iter().map(|text| text.as_str().unwrap())
    }
    let condition = |v: &serde_json::Value| Condition {
        index: v["index"].as_u64().unwrap() as u32,
        value: v["value"].as_u64().unwrap(),
        value_two: v["valueTwo"].as_u64().unwrap_or(0),
        op: Op::from_oci(v["op"].as_str().unwrap()).unwrap(),
    };
    let default = json["defaultAction"].as_str().unwrap();
    Owned {
        default_action: Action::from_oci(default, errno(&json["defaultErrnoRet"])).unwrap(),
        architectures: strings(&json["architectures"]).map(|n| Arch::from_oci(n).unwrap()).collect(),
        rules: json["syscalls"]
            .as_array()
            .unwrap()
            .iter()
            .map(|rule| {
                let action = rule["action"].as_str().unwrap();
                let args = rule["args"].as_array().map_or(&[][..], Vec::as_slice);
                (
                    strings(&rule["names"]).collect(),
                    Action::from_oci(action, errno(&rule["errnoRet"])).unwrap(),
                    args.iter().map(condition).collect(),
                )
            })
            .collect(),
    }
}

pub(in super::super) fn when(index: u32, op: Op, value: u64) -> Condition {
    Condition { index, value, value_two: 0, op }
}

pub(in super::super) fn masked(index: u32, mask: u64, value_two: u64) -> Condition {
    Condition { index, value: mask, value_two, op: Op::MaskedEq }
}
