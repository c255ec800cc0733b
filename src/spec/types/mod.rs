// SPDX-License-Identifier: Apache-2.0
//! The words of a bundle's config.json (runtime-spec 1.3.0, config.md), the Linux half of it, as plain values.
//!
//! Filled by [`crate::spec::load`], judged by [`crate::spec::validate`], read by the plan. The types are our own and not those of the
//! oci-spec crate because a runtime must take what its callers write: unknown capabilities are a warning and not a refusal, absent and
//! `null` mean the same, and the number 1 and the text "1" do not. The tests hold these types against oci-spec's.
//!
//! Conventions: names are the specification's in snake case, without the prefix "Linux". An array that is absent or null is an empty
//! `Vec`; an object or number that may be absent is an `Option`; text is empty when absent. Enumerations stay text here, so that
//! validation can name a value it does not know. Fields of other platforms (vm, windows, solaris, zos, freebsd) and unknown fields are
//! ignored, as the specification asks (config.md, "Extensibility").

use std::collections::BTreeMap;

mod call_names;
mod docker;
mod linux;
mod mount_options;
mod object;
mod process;
mod resources;
mod seccomp;

pub use call_names::CallNames;
pub use docker::*;
pub use linux::*;
pub use mount_options::option_words;
pub(crate) use object::object;
pub use object::{Field, Item, Object, Place, Strict, read_object, read_object_into, write_object};
pub use process::*;
pub use resources::*;
pub use seccomp::*;

object! {
    /// config.json.
    pub struct Spec {
        /// The version of the specification the bundle follows; semantic versioning.
        oci_version: String = "ociVersion",
        /// The container process; needed by `start`.
        process: Option<Box<Process>> = "process",
        /// The root file system.
        root: Option<Root> = "root",
        /// sethostname(2) in the container's UTS namespace.
        hostname: String = "hostname",
        /// setdomainname(2) in the container's UTS namespace.
        domainname: String = "domainname",
        /// What to mount into it, in order.
        mounts: Vec<Mount> = "mounts",
        /// Programs to run at points of the lifecycle.
        hooks: Option<Hooks> = "hooks",
        /// What the caller wants remembered, or asks of this runtime.
        annotations: BTreeMap<String, String> = "annotations",
        /// What only Linux has.
        linux: Option<Box<Linux>> = "linux",
    }

    /// The container's root file system (config.md, "Root").
    pub struct Root {
        /// The directory: absolute, or relative to the bundle.
        path: String = "path",
        /// Whether it is read-only inside the container.
        readonly: bool = "readonly",
    }

    /// One mount (config.md, "Mounts").
    pub struct Mount {
        /// Where, inside the container; a relative path counts from its root.
        destination: String = "destination",
        /// The file system type; of no meaning for a bind mount.
        kind: String = "type",
        /// A device, or the file or directory to bind: absolute, or relative to the bundle.
        source: String = "source",
        /// As of fstab(5), and more (config.md, "Linux mount options").
        options: Vec<String> = "options",
        /// User ids of the file system, shifted (mount_setattr(2), MOUNT_ATTR_IDMAP).
        uid_mappings: Vec<IdMapping> = "uidMappings",
        /// Group ids of the file system, shifted.
        gid_mappings: Vec<IdMapping> = "gidMappings",
    }

    /// Programs to run at points of the lifecycle (config.md, "POSIX-platform Hooks").
    pub struct Hooks {
        /// Deprecated: with createRuntime, before those.
        prestart: Vec<Hook> = "prestart",
        /// During create, in the runtime's namespaces.
        create_runtime: Vec<Hook> = "createRuntime",
        /// During create, in the container's namespaces, before pivot_root.
        create_container: Vec<Hook> = "createContainer",
        /// During start, in the container.
        start_container: Vec<Hook> = "startContainer",
        /// After start, in the runtime's namespaces.
        poststart: Vec<Hook> = "poststart",
        /// After delete, in the runtime's namespaces.
        poststop: Vec<Hook> = "poststop",
    }

    /// One program to run.
    pub struct Hook {
        /// Absolute path; in the host, or in the container for startContainer.
        path: String = "path",
        /// argv, with argv\[0\]; empty means the path alone.
        args: Vec<String> = "args",
        /// The whole environment: KEY=VALUE.
        env: Vec<String> = "env",
        /// Seconds, more than 0; absent means for ever.
        timeout: Option<i64> = "timeout",
    }

    /// A range of user or group ids, here and outside (user_namespaces(7)).
    #[derive(Copy, Eq)]
    pub struct IdMapping {
        /// The first id inside.
        container_id: u32 = "containerID" required,
        /// The first id outside.
        host_id: u32 = "hostID" required,
        /// How many ids.
        size: u32 = "size" required,
    }
}

impl Spec {
    /// True when the container has a namespace of this type (`uts`) that it does not inherit: a new one or one that it joins.
    pub fn has_namespace(&self, kind: &str) -> bool {
        self.linux.as_deref().is_some_and(|linux| linux.has_namespace(kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::texts::Texts;

    /// docs/config-fields.md says of each field which tests show what becomes of it; `integration/fields_table.rs` looks for those tests.
    /// (Those of `linux.resources` have rows as far as a kernel that is at hand shows them.)
    #[test]
    fn every_field_has_a_row() {
        let table = include_str!("../../../docs/config-fields.md");
        let objects: [(&str, Texts); 26] = [
            ("", Spec::NAMES),
            ("root.", Root::NAMES),
            ("mounts[].", Mount::NAMES),
            ("hooks.", Hooks::NAMES),
            ("hooks.*[].", Hook::NAMES),
            ("process.", Process::NAMES),
            ("process.consoleSize.", BoxSize::NAMES),
            ("process.user.", User::NAMES),
            ("process.capabilities.", Capabilities::NAMES),
            ("process.rlimits[].", Rlimit::NAMES),
            ("process.scheduler.", Scheduler::NAMES),
            ("process.ioPriority.", IoPriority::NAMES),
            ("process.execCPUAffinity.", ExecCpuAffinity::NAMES),
            ("linux.", Linux::NAMES),
            ("linux.uidMappings[].", IdMapping::NAMES),
            ("linux.namespaces[].", Namespace::NAMES),
            ("linux.timeOffsets.*.", TimeOffset::NAMES),
            ("linux.devices[].", Device::NAMES),
            ("linux.netDevices.*.", NetDevice::NAMES),
            ("linux.intelRdt.", IntelRdt::NAMES),
            ("linux.memoryPolicy.", MemoryPolicy::NAMES),
            ("linux.personality.", Personality::NAMES),
            ("linux.seccomp.", Seccomp::NAMES),
            ("linux.seccomp.syscalls[].", SeccompSyscall::NAMES),
            ("linux.seccomp.syscalls[].args[].", SeccompArg::NAMES),
            ("linux.resources.devices[].", DeviceRule::NAMES),
        ];
        for (object, names) in objects {
            for name in names {
                assert!(table.contains(&format!("\n| `{object}{name}`")), "no row for {object}{name}");
            }
        }
    }

    #[test]
    fn absent_and_null_are_the_same() {
        let absent: Spec = serde_json::from_str(r#"{"ociVersion":"1.3.0"}"#).unwrap();
        let null: Spec = serde_json::from_str(
            r#"{"ociVersion":"1.3.0","root":null,"mounts":null,"process":null,"hostname":null,"annotations":null,"linux":null}"#,
        )
        .unwrap();
        assert_eq!(absent, null);
        let inner: Process = serde_json::from_str(r#"{"user":null,"env":null,"terminal":null,"oomScoreAdj":null}"#).unwrap();
        assert_eq!(inner, Process::default());
    }

    #[test]
    fn names_are_the_specifications() {
        let text = r#"{"process":{"execCPUAffinity":{"initial":"0","final":"1"}},"linux":{"uidMappings":[{"containerID":0,"hostID":1,"size":2}],"intelRdt":{"closID":"a","l3CacheSchema":"b","memBwSchema":"c"},"resources":{"memory":{"kernelTCP":1,"disableOOMKiller":true},"blockIO":{"throttleReadIOPSDevice":[{"major":8,"minor":0,"rate":1}]},"network":{"classID":1}}}}"#;
        let spec: Spec = serde_json::from_str(text).unwrap();
        let again: serde_json::Value = serde_json::to_value(&spec).unwrap();
        let mut given: serde_json::Value = serde_json::from_str(text).unwrap();
        given["process"]["user"] = serde_json::json!({"uid": 0, "gid": 0});
        assert_eq!(again, given);
    }

    #[test]
    fn objects_are_objects() {
        for bad in ["[0,0]", "\"0\"", r#"{"uid":0,"uid":1}"#] {
            assert!(serde_json::from_str::<User>(bad).is_err(), "{bad} was taken for a user");
        }
        for bad in [r#"{"containerID":0,"size":1}"#, r#"{"containerID":0,"hostID":null,"size":1}"#] {
            assert!(serde_json::from_str::<IdMapping>(bad).is_err(), "{bad} was taken for a mapping");
        }
    }

    #[test]
    fn numbers_are_strict() {
        for bad in ["1.0", "-1", "4294967296", "\"1\"", "1e3", "true"] {
            let text = format!(r#"{{"uid":{bad}}}"#);
            assert!(serde_json::from_str::<User>(&text).is_err(), "{bad} was taken for a user id");
        }
        let limit: Rlimit = serde_json::from_str(r#"{"type":"RLIMIT_CORE","hard":18446744073709551615,"soft":0}"#).unwrap();
        assert_eq!(limit.hard, u64::MAX);
    }
}
