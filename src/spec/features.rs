// SPDX-License-Identifier: Apache-2.0
//! The features document (features.md, features-linux.md of runtime-spec 1.3.0), which `berth features` prints.
//!
//! It says what this program understands, not what this host can do, so that but for `supportedFlags` it is the same on every host. What
//! the specification names is taken from [`super::names`]; what this build does is given by the caller as [`Facts`], who knows.

use std::collections::BTreeMap;

use super::{names, object};
use crate::texts::Texts;

/// The oldest version of the specification that is understood.
pub const OCI_VERSION_MIN: &str = "1.0.0";
/// The newest, which new files are written in.
pub const OCI_VERSION_MAX: &str = "1.3.0";

/// What this build does, by the parts of the program that do it.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Mount options that are not passed on to the file system: the table of the plan.
    pub mount_options: Vec<String>,
    /// Cgroup managers.
    pub cgroup: CgroupFeatures,
    /// Architectures the filter compiler knows; empty when there is no seccomp.
    pub seccomp_archs: Vec<String>,
    /// Those of [`names::SECCOMP_FLAGS`] that this kernel has as well.
    pub seccomp_supported_flags: Vec<String>,
    /// AppArmor profiles are set.
    pub apparmor: bool,
    /// SELinux labels are set.
    pub selinux: bool,
    /// Resource director groups are made, with schemata and monitoring.
    pub intel_rdt: bool,
    /// The memory policy is set.
    pub memory_policy: bool,
    /// Mounts are id-mapped.
    pub idmap: bool,
    /// Network devices are moved.
    pub net_devices: bool,
    /// About this program: version, commit.
    pub annotations: BTreeMap<String, String>,
    /// Annotations of a config.json that make this program do what a careful caller may not want of an untrusted one; a name that ends
    /// in "." stands for all that begin with it.
    pub unsafe_annotations: Vec<String>,
}

object! {
    /// The features document.
    pub struct Features {
        /// The oldest `ociVersion` understood.
        oci_version_min: String = "ociVersionMin" required,
        /// The newest `ociVersion` understood.
        oci_version_max: String = "ociVersionMax" required,
        /// Names of hooks.
        hooks: Vec<String> = "hooks",
        /// Names of mount options.
        mount_options: Vec<String> = "mountOptions",
        /// What only Linux has.
        linux: Option<LinuxFeatures> = "linux",
        /// About this program.
        annotations: BTreeMap<String, String> = "annotations",
        /// Annotations of a config.json that can be unsafe.
        potentially_unsafe_config_annotations: Vec<String> = "potentiallyUnsafeConfigAnnotations",
    }

    /// features-linux.md.
    pub struct LinuxFeatures {
        /// Types of namespaces.
        namespaces: Vec<String> = "namespaces",
        /// Names of capabilities.
        capabilities: Vec<String> = "capabilities",
        /// Cgroup managers.
        cgroup: Option<CgroupFeatures> = "cgroup",
        /// System call filters.
        seccomp: Option<SeccompFeatures> = "seccomp",
        /// AppArmor.
        apparmor: Option<Enabled> = "apparmor",
        /// SELinux.
        selinux: Option<Enabled> = "selinux",
        /// Resource director.
        intel_rdt: Option<IntelRdtFeatures> = "intelRdt",
        /// Memory policy.
        memory_policy: Option<MemoryPolicyFeatures> = "memoryPolicy",
        /// More than mount(2).
        mount_extensions: Option<MountExtensions> = "mountExtensions",
        /// Network devices.
        net_devices: Option<Enabled> = "netDevices",
    }

    /// Whether something is understood; false is said.
    #[derive(Copy, Eq)]
    pub struct Enabled {
        /// Whether it is.
        enabled: Option<bool> = "enabled",
    }

    /// Cgroup managers, whatever this host has.
    #[derive(Copy, Eq)]
    pub struct CgroupFeatures {
        /// cgroup v1.
        v1: Option<bool> = "v1",
        /// cgroup v2.
        v2: Option<bool> = "v2",
        /// Through the system's systemd.
        systemd: Option<bool> = "systemd",
        /// Through a user's systemd.
        systemd_user: Option<bool> = "systemdUser",
        /// The controller rdma.
        rdma: Option<bool> = "rdma",
    }

    /// System call filters.
    pub struct SeccompFeatures {
        /// Whether there are any.
        enabled: Option<bool> = "enabled",
        /// Names of actions.
        actions: Vec<String> = "actions",
        /// Names of comparisons.
        operators: Vec<String> = "operators",
        /// Names of architectures.
        archs: Vec<String> = "archs",
        /// Names of flags.
        known_flags: Vec<String> = "knownFlags",
        /// Those that can be used on this kernel.
        supported_flags: Vec<String> = "supportedFlags",
    }

    /// Resource director.
    #[derive(Copy, Eq)]
    pub struct IntelRdtFeatures {
        /// Whether groups are made.
        enabled: Option<bool> = "enabled",
        /// Whether `schemata` is understood.
        schemata: Option<bool> = "schemata",
        /// Whether `enableMonitoring` is understood.
        monitoring: Option<bool> = "monitoring",
    }

    /// Memory policy.
    pub struct MemoryPolicyFeatures {
        /// Names of modes.
        modes: Vec<String> = "modes",
        /// Names of flags.
        flags: Vec<String> = "flags",
    }

    /// More than mount(2).
    #[derive(Copy, Eq)]
    pub struct MountExtensions {
        /// `uidMappings` and `gidMappings` of a mount.
        idmap: Option<Enabled> = "idmap",
    }
}

/// The features document of a build.
pub fn features(facts: Facts) -> Features {
    let enabled = |enabled| Some(Enabled { enabled: Some(enabled) });
    let has_seccomp = !facts.seccomp_archs.is_empty();
    let seccomp_names = |list: Texts| if has_seccomp { owned(list) } else { Vec::new() };
    let linux = LinuxFeatures {
        namespaces: owned(names::NAMESPACES),
        capabilities: owned(names::CAPABILITIES),
        cgroup: Some(facts.cgroup),
        seccomp: Some(SeccompFeatures {
            enabled: Some(has_seccomp),
            actions: seccomp_names(names::SECCOMP_ACTIONS),
            operators: seccomp_names(names::SECCOMP_OPERATORS),
            archs: facts.seccomp_archs,
            known_flags: seccomp_names(names::SECCOMP_FLAGS),
            supported_flags: facts.seccomp_supported_flags,
        }),
        apparmor: enabled(facts.apparmor),
        selinux: enabled(facts.selinux),
        intel_rdt: Some(IntelRdtFeatures {
            enabled: Some(facts.intel_rdt),
            schemata: Some(facts.intel_rdt),
            monitoring: Some(facts.intel_rdt),
        }),
        memory_policy: facts
            .memory_policy
            .then(|| MemoryPolicyFeatures { modes: owned(names::MEMORY_MODES), flags: owned(names::MEMORY_FLAGS) }),
        mount_extensions: Some(MountExtensions { idmap: enabled(facts.idmap) }),
        net_devices: enabled(facts.net_devices),
    };
    Features {
        oci_version_min: OCI_VERSION_MIN.into(),
        oci_version_max: OCI_VERSION_MAX.into(),
        hooks: owned(names::HOOKS),
        mount_options: facts.mount_options,
        linux: Some(linux),
        annotations: facts.annotations,
        potentially_unsafe_config_annotations: facts.unsafe_annotations,
    }
}

fn owned(list: Texts) -> Vec<String> {
    list.iter().map(String::from).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::write::to_json;
    use super::*;
    use crate::texts::texts;

    fn everything() -> Facts {
        Facts {
            mount_options: owned(texts!["bind", "ro", "rro"]),
            cgroup: CgroupFeatures {
                v1: Some(false),
                v2: Some(true),
                systemd: Some(true),
                systemd_user: Some(true),
                rdma: Some(true),
            },
            seccomp_archs: owned(texts!["SCMP_ARCH_X86_64"]),
            seccomp_supported_flags: owned(texts!["SECCOMP_FILTER_FLAG_LOG"]),
            apparmor: true,
            selinux: false,
            intel_rdt: true,
            memory_policy: true,
            idmap: true,
            net_devices: true,
            annotations: BTreeMap::from([("berth.version".into(), "1".into())]),
            unsafe_annotations: owned(texts!["org.systemd.property."]),
        }
    }

    /// oci-spec's reader must find every field: it is what callers written in Rust use.
    #[test]
    fn is_what_oci_spec_reads() {
        let text = to_json(&features(everything()), "    ").unwrap();
        let ours: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let theirs: oci_spec::runtime::Features = serde_json::from_slice(&text).unwrap();
        assert_eq!(serde_json::to_value(&theirs).unwrap(), ours);
    }

    /// What CRI-O, containerd and moby look at.
    #[test]
    fn says_what_callers_ask() {
        let document = serde_json::to_value(features(everything())).unwrap();
        assert_eq!(document["ociVersionMin"], "1.0.0");
        assert_eq!(document["ociVersionMax"], "1.3.0");
        assert_eq!(document["mountOptions"], json!(["bind", "ro", "rro"]));
        assert_eq!(document["linux"]["mountExtensions"]["idmap"]["enabled"], true);
        assert!(document["linux"]["namespaces"].as_array().unwrap().contains(&json!("user")));
        assert_eq!(document["linux"]["intelRdt"], json!({"enabled": true, "schemata": true, "monitoring": true}));
    }

    /// "The null value MUST NOT be confused with an empty value": what is not there is said to be not there.
    #[test]
    fn false_is_said() {
        let document = serde_json::to_value(features(Facts::default())).unwrap();
        assert_eq!(document["linux"]["selinux"], json!({"enabled": false}));
        assert_eq!(document["linux"]["seccomp"], json!({"enabled": false}));
        assert_eq!(document["linux"]["mountExtensions"], json!({"idmap": {"enabled": false}}));
        assert!(document["linux"].get("memoryPolicy").is_none());
        let v1 = serde_json::to_value(features(everything())).unwrap();
        assert_eq!(v1["linux"]["cgroup"]["v1"], false);
    }
}
