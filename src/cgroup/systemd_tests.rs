// SPDX-License-Identifier: Apache-2.0
//! Tests against a systemd that is there for them: with BERTH_TEST_SYSTEMD=system as root, or =user as an ordinary user with a manager of
//! his own. Anywhere else they say that they are skipped.

use std::collections::BTreeMap;
use std::process::{Child, Command};
use std::time::Duration;

use super::*;
use crate::linux::probe;
use crate::linux::types::CgroupMode;
use crate::plan::resources::{UserManager, plan};
use crate::plan::{CgroupManager, Host, Id, Request};
use crate::spec::types::Spec;

const LONG: Duration = Duration::from_secs(10);

/// This host, where it has the systemd for tests; otherwise says that `test` is skipped.
fn host(test: &str) -> Option<Host> {
    let Ok(which) = std::env::var("BERTH_TEST_SYSTEMD") else {
        println!("skip {test}: needs a systemd to play with (BERTH_TEST_SYSTEMD)");
        return None;
    };
    assert_eq!(probe::cgroup_mode(), CgroupMode::Unified);
    let mut host = Host::example();
    host.euid = probe::euid();
    host.initial_user_namespace = probe::in_initial_user_namespace();
    host.v2_controllers = probe::v2_controllers();
    host.own_cgroup = probe::own_cgroup();
    if which == "user" {
        let runtime_dir = std::env::var("XDG_RUNTIME_DIR").unwrap();
        let cgroup = systemd::user_manager_cgroup(&runtime_dir).unwrap();
        host.user_manager = Some(UserManager { runtime_dir, cgroup });
    }
    Some(host)
}

fn plan_of(host: &Host, id: &str, path: &str, resources: &str, annotations: &[(&str, &str)]) -> CgroupPlan {
    let mut spec: Spec =
        serde_json::from_str(&format!(r#"{{"linux":{{"cgroupsPath":"{path}","resources":{resources}}}}}"#)).unwrap();
    spec.annotations = annotations.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect::<BTreeMap<_, _>>();
    let request =
        Request { cgroup_manager: CgroupManager::Systemd, ..Request::create(Id::parse(id).unwrap(), "/bundle", "/run/berth") };
    plan(&spec, &request, host).unwrap()
}

/// A process that waits, in the place of a container's first; killed when the test ends.
struct Sleeper(Child);

impl Sleeper {
    fn new() -> Sleeper {
        Sleeper(Command::new("sleep").arg("1000").spawn().unwrap())
    }
    fn pid(&self) -> i32 {
        self.0.id().cast_signed()
    }
    fn cgroup(&self) -> String {
        std::fs::read_to_string(format!("/proc/{}/cgroup", self.pid())).unwrap().trim().to_string()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A property of a unit, as systemctl(1) shows it.
fn shown(host: &Host, unit: &str, property: &str) -> String {
    let user: &[&str] = if host.user_manager.is_some() { &["--user"] } else { &[] };
    let output = Command::new("systemctl").args(user).args(["show", "--value", "-p", property, unit]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_string()
}

fn make(plan: &CgroupPlan, pid: i32) -> Cgroup {
    check(plan).unwrap();
    let cgroup = Cgroup::create_unit(plan, pid).unwrap();
    cgroup.apply(&plan.writes).unwrap();
    cgroup
}

#[test]
fn a_scope_with_limits() {
    let Some(host) = host("a_scope_with_limits") else { return };
    let resources = r#"{"memory":{"limit":50000000},"pids":{"limit":20},"cpu":{"shares":512,"quota":20000,"period":100000}}"#;
    let annotations = [("org.systemd.property.TimeoutStopSec", "uint64 7"), ("org.systemd.property.CollectMode", "'inactive'")];
    let plan = plan_of(&host, "one", ":bt:one", resources, &annotations);
    let sleeper = Sleeper::new();
    let cgroup = make(&plan, sleeper.pid());
    let saved = cgroup.saved().v2.clone().unwrap();
    assert!(saved.path.ends_with("/bt-one.scope"), "{saved:?}");
    assert_eq!(sleeper.cgroup(), format!("0::{}", saved.path));
    let at = |file: &str| std::fs::read_to_string(format!("{}{}/{file}", saved.mount, saved.path)).unwrap().trim().to_string();
    // Memory comes in pages.
    assert_eq!((at("memory.max"), at("pids.max"), at("cpu.max")), ("49999872".into(), "20".into(), "20000 100000".into()));
    assert_eq!(at("cpu.weight"), "59");
    let shown = |property: &str| shown(&host, "bt-one.scope", property);
    assert_eq!((shown("Delegate"), shown("TasksMax"), shown("CPUWeight")), ("yes".into(), "20".into(), "59".into()));
    assert_eq!((shown("TimeoutStopUSec"), shown("CollectMode")), ("7s".into(), "inactive".into()));
    assert_eq!(shown("CPUQuotaPerSecUSec"), "200ms");

    // A reload makes systemd write its own values again: they are the same.
    let user: &[&str] = if host.user_manager.is_some() { &["--user"] } else { &[] };
    assert!(Command::new("systemctl").args(user).arg("daemon-reload").status().unwrap().success());
    assert_eq!((at("pids.max"), at("cpu.max"), at("cpu.weight")), ("20".into(), "20000 100000".into(), "59".into()));

    let more: crate::spec::types::Resources =
        serde_json::from_str(r#"{"pids":{"limit":30},"memory":{"limit":60000000}}"#).unwrap();
    let again = Cgroup::reopen(cgroup.saved()).unwrap();
    again.update(&crate::plan::resources::limits(&more, "", &host).unwrap().writes).unwrap();
    assert_eq!((at("pids.max"), shown("TasksMax"), shown("MemoryMax")), ("30".into(), "30".into(), "60000000".into()));

    // One that joins later.
    let joining = Sleeper::new();
    Cgroup::reopen(again.saved()).unwrap().exec_place(sleeper.pid(), &[]).unwrap().enter(joining.pid(), false).unwrap();
    assert_eq!(joining.cgroup(), format!("0::{}", saved.path));
    again.freeze().unwrap();
    again.kill().unwrap();
    drop((sleeper, joining));
    again.remove(LONG).unwrap();
    assert_eq!(shown("LoadState"), "not-found");
    again.remove(LONG).unwrap();
}

#[test]
fn a_name_that_is_taken_and_one_that_failed() {
    let Some(host) = host("a_name_that_is_taken_and_one_that_failed") else { return };
    let plan = plan_of(&host, "two", ":bt:two", "{}", &[("org.systemd.property.CollectMode", "'inactive'")]);
    let (first, second) = (Sleeper::new(), Sleeper::new());
    let cgroup = make(&plan, first.pid());
    let error = check(&plan).unwrap_err();
    assert!(error.what.contains("container's cgroup is not empty: 1 process(es) found"), "{error}");
    let error = Cgroup::create_unit(&plan, second.pid()).unwrap_err();
    assert!(error.what.contains("a unit of this name exists already"), "{error}");
    assert!(first.cgroup().ends_with("bt-two.scope") && !second.cgroup().ends_with("bt-two.scope"));
    cgroup.kill().unwrap();
    drop(first);
    cgroup.remove(LONG).unwrap();
    let cgroup = make(&plan, second.pid());
    cgroup.kill().unwrap();
    drop(second);
    cgroup.remove(LONG).unwrap();
}

#[test]
fn slices_and_idle_time() {
    let Some(host) = host("slices_and_idle_time") else { return };
    let plan = plan_of(&host, "three", "bt-inner.slice:bt:three", r#"{"cpu":{"idle":1,"shares":100}}"#, &[]);
    let sleeper = Sleeper::new();
    let cgroup = make(&plan, sleeper.pid());
    assert!(sleeper.cgroup().ends_with("/bt.slice/bt-inner.slice/bt-three.scope"), "{}", sleeper.cgroup());
    let saved = cgroup.saved().v2.clone().unwrap();
    assert_eq!(std::fs::read_to_string(format!("{}{}/cpu.idle", saved.mount, saved.path)).unwrap().trim(), "1");
    cgroup.kill().unwrap();
    drop(sleeper);
    cgroup.remove(LONG).unwrap();
}

#[test]
fn a_cgroup_given_over_below_the_scope() {
    let Some(host) = host("a_cgroup_given_over_below_the_scope") else { return };
    let plan = plan_of(&host, "five", ":bt:five", r#"{"pids":{"limit":9}}"#, &[("run.oci.delegate-cgroup", "inner")]);
    let sleeper = Sleeper::new();
    let cgroup = make(&plan, sleeper.pid());
    assert!(sleeper.cgroup().ends_with("/bt-five.scope/inner"), "{}", sleeper.cgroup());
    let joining = Sleeper::new();
    Cgroup::reopen(cgroup.saved()).unwrap().exec_place(sleeper.pid(), &[]).unwrap().enter(joining.pid(), false).unwrap();
    assert!(joining.cgroup().ends_with("/bt-five.scope/inner"), "{}", joining.cgroup());
    cgroup.kill().unwrap();
    drop((sleeper, joining));
    cgroup.remove(LONG).unwrap();
}

#[test]
fn what_systemd_refuses_is_said() {
    let Some(host) = host("what_systemd_refuses_is_said") else { return };
    let plan = plan_of(&host, "four", ":bt:four", "{}", &[("org.systemd.property.TasksMax", "'many'")]);
    let sleeper = Sleeper::new();
    let error = Cgroup::create_unit(&plan, sleeper.pid()).unwrap_err();
    assert!(error.what.contains("cannot start the unit bt-four.scope: systemd says: "), "{error}");
    assert!(!sleeper.cgroup().contains("bt-four"));
    // A unit that never was is removed all the same.
    Cgroup::reopen(&plan.saved).unwrap().remove(LONG).unwrap();
}
