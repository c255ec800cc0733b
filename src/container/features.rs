// SPDX-License-Identifier: Apache-2.0
//! `features`: what this build does, of everything the specification names (features.md). Engines ask it when they start, so it looks at
//! nothing but the program itself, and asks the kernel which seccomp flags it has: `supportedFlags` is the one list that is about both.

use crate::linux::seccomp;
use crate::plan::mounts::options::mount_options_known;
use crate::plan::seccomp::Arch;
use crate::plan::{hook_output, process, seccomp_profile};
use crate::spec::features::{CgroupFeatures, Facts, Features, features as document};

/// The features document of this build.
pub fn features() -> Features {
    let owned = |names: Vec<&str>| names.into_iter().map(String::from).collect();
    let mut mount_options: Vec<String> = owned(mount_options_known());
    mount_options.sort();
    document(Facts {
        mount_options,
        cgroup: CgroupFeatures {
            v1: Some(true),
            v2: Some(true),
            systemd: Some(true),
            systemd_user: Some(true),
            rdma: Some(true),
        },
        seccomp_archs: Arch::ALL.iter().map(|arch| arch.oci_name().to_string()).collect(),
        seccomp_supported_flags: owned(
            seccomp_profile::FLAGS.iter().filter(|(_, flag)| seccomp::has_flag(*flag)).map(|(name, _)| *name).collect(),
        ),
        apparmor: true,
        selinux: true,
        intel_rdt: true,
        memory_policy: true,
        idmap: true,
        net_devices: true,
        annotations: [
            ("io.github.berth.version".to_string(), env!("CARGO_PKG_VERSION").to_string()),
            ("io.github.berth.commit".to_string(), option_env!("BERTH_COMMIT").unwrap_or("unknown").to_string()),
            // crun says it under runc's name too: it is the one that engines know.
            ("org.opencontainers.runc.checkpoint.enabled".to_string(), "true".to_string()),
        ]
        .into(),
        unsafe_annotations: owned(vec![
            "org.systemd.property.",
            "run.oci.delegate-cgroup",
            "org.criu.config",
            hook_output::STDERR,
            hook_output::STDOUT,
            seccomp_profile::RECEIVER,
            process::KEEP_GROUPS,
        ]),
    })
}
