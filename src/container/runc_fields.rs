// SPDX-License-Identifier: Apache-2.0
//! The part of runc's state.json that tools read which look into the file instead of asking `state`: written behind our own fields, and
//! never read by us. Called by `store`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::state::State;
use crate::linux::clone;
use crate::linux::types::Namespaces;
use crate::spec::load;
use crate::spec::types::Mount;

/// A state as it is written.
#[derive(Serialize)]
pub struct WithRuncFields<'a> {
    #[serde(flatten)]
    state: &'a State,
    config: Config<'a>,
    /// By controller; the cgroup2 directory is that of "".
    cgroup_paths: BTreeMap<String, String>,
    namespace_paths: BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
struct Config<'a> {
    version: &'a str,
    rootfs: &'a str,
    /// The annotations as `key=value`, and the bundle.
    labels: Vec<String>,
    cgroups: Cgroups,
    namespaces: Vec<Namespace>,
    mounts: Vec<MountPlaces<'a>>,
}

/// A mount, as far as it is looked for: what of the host is where in the container.
#[derive(Serialize)]
struct MountPlaces<'a> {
    source: &'a str,
    destination: &'a str,
}

#[derive(Serialize)]
struct Cgroups {
    path: String,
}

#[derive(Serialize)]
struct Namespace {
    #[serde(rename = "type")]
    kind: &'static str,
    path: &'static str,
}

/// The namespaces in runc's order.
const NAMESPACES: [Namespaces; 8] = [
    Namespaces::PID,
    Namespaces::NET,
    Namespaces::MOUNT,
    Namespaces::IPC,
    Namespaces::UTS,
    Namespaces::USER,
    Namespaces::CGROUP,
    Namespaces::TIME,
];

/// runc's name of one: `NEWPID`.
fn runc_name(kind: Namespaces) -> &'static str {
    clone::namespace_flag(kind).trim_start_matches("CLONE_")
}

impl<'a> WithRuncFields<'a> {
    /// Adds the fields to a state.
    pub fn of(state: &'a State, mounts: &'a [Mount]) -> WithRuncFields<'a> {
        let own = Namespaces::from_bits_truncate(state.namespaces);
        let mut labels: Vec<String> = state.annotations.iter().map(|(key, value)| format!("{key}={value}")).collect();
        labels.push(format!("bundle={}", state.bundle));
        let mut cgroup_paths = BTreeMap::new();
        for dir in state.cgroup.v2.iter().chain(&state.cgroup.v1) {
            let path = format!("{}{}", dir.mount, dir.path);
            if dir.controllers.is_empty() {
                cgroup_paths.insert(String::new(), path);
            } else {
                cgroup_paths.extend(dir.controllers.iter().map(|name| (name.clone(), path.clone())));
            }
        }
        let path = state.cgroup.v2.iter().chain(&state.cgroup.v1).next().map(|dir| dir.path.clone()).unwrap_or_default();
        let namespaces = NAMESPACES.into_iter().filter(|kind| own.contains(*kind));
        WithRuncFields {
            state,
            config: Config {
                version: &state.oci_version,
                rootfs: &state.rootfs,
                labels,
                cgroups: Cgroups { path },
                namespaces: namespaces.map(|kind| Namespace { kind: runc_name(kind), path: "" }).collect(),
                mounts: mounts.iter().map(|one| MountPlaces { source: &one.source, destination: &one.destination }).collect(),
            },
            cgroup_paths,
            namespace_paths: NAMESPACES
                .into_iter()
                .map(|kind| (runc_name(kind), format!("/proc/{}/ns/{}", state.init_process_pid, clone::namespace_file(kind))))
                .collect(),
        }
    }
}

/// Where what is written for tools begins. No field of a state has this name, at any depth, and in a string no quotation mark stands bare.
const BEGIN: &str = ",\"config\":{";

/// Reads a state. What is written for tools is twice as much as what is ours, and passed over, where it is where it is written.
pub fn read(bytes: &[u8]) -> Result<State, serde_json::Error> {
    let ours = || {
        let text = str::from_utf8(bytes).ok().filter(|text| text.ends_with('}'))?;
        let ours = format!("{}}}", &text[..text.find(BEGIN)?]);
        serde_json::from_str(&ours).ok()
    };
    ours().map_or_else(|| load::json(bytes), Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_beside_ours_and_do_not_disturb() {
        let state = State {
            id: "x".into(),
            init_process_pid: 7,
            bundle: "/b".into(),
            rootfs: "/b/rootfs".into(),
            annotations: [("k".to_string(), "v".to_string()), ("config".into(), ",\"config\":{".into())].into(),
            namespaces: (Namespaces::PID | Namespaces::MOUNT).bits(),
            ..State::default()
        };
        let mounts = [Mount { source: "/data".into(), destination: "/d".into(), ..Mount::default() }];
        let text = serde_json::to_vec(&WithRuncFields::of(&state, &mounts)).unwrap();
        assert_eq!(serde_json::from_slice::<State>(&text).unwrap(), state);
        assert_eq!(read(&text).unwrap(), state);
        // Where it is cut off behind what is ours, that is whole.
        assert!((0..text.len()).filter_map(|end| read(&text[..end]).ok()).all(|read| read == state));
        assert!(read(&text[..text.len() / 2]).is_err());
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(read(value.to_string().as_bytes()).unwrap(), state, "in another order");
        assert_eq!(read(serde_json::to_string_pretty(&value).unwrap().as_bytes()).unwrap(), state);
        assert_eq!(read(&serde_json::to_vec(&state).unwrap()).unwrap(), state, "of a journal");
        assert_eq!(value["config"]["labels"], serde_json::json!(["config=,\"config\":{", "k=v", "bundle=/b"]));
        assert_eq!(value["config"]["rootfs"], "/b/rootfs");
        assert_eq!(value["config"]["namespaces"][0]["type"], "NEWPID");
        assert_eq!(value["namespace_paths"]["NEWNET"], "/proc/7/ns/net");
        assert_eq!(value["config"]["mounts"], serde_json::json!([{ "source": "/data", "destination": "/d" }]));
        assert_eq!(value["init_process_pid"], 7);
    }
}
