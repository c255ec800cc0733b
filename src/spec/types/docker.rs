// SPDX-License-Identifier: Apache-2.0
//! What the seccomp profiles of Docker, containerd and Podman have beside `linux.seccomp`: each rule says for which containers it is, and
//! an engine writes those that are into config.json (github.com/moby/profiles, seccomp). Read by `spec::seccomp_file`.

use super::object;

object! {
    /// A profile, as far as config.json has nothing like it.
    pub struct DockerProfile {
        /// Architectures by that of the host.
        arch_map: Vec<ArchMap> = "archMap",
        /// The rules, in the order in which `linux.seccomp.syscalls` has them.
        syscalls: Vec<DockerRule> = "syscalls",
    }

    /// The architectures that go with one of the host.
    pub struct ArchMap {
        /// `SCMP_ARCH_X86_64`, …: the host's.
        architecture: String = "architecture",
        /// Those whose programs it runs besides.
        sub_architectures: Vec<String> = "subArchitectures",
    }

    /// What one rule has besides.
    pub struct DockerRule {
        /// A single name, in old profiles.
        name: String = "name",
        /// It is for containers of which all of this is true.
        includes: Option<DockerFilter> = "includes",
        /// It is not for containers of which any of this is true.
        excludes: Option<DockerFilter> = "excludes",
    }

    /// Of which containers it speaks.
    pub struct DockerFilter {
        /// Capabilities of the container.
        caps: Vec<String> = "caps",
        /// Architectures of the host, as Docker calls them: `amd64`.
        arches: Vec<String> = "arches",
        /// The least kernel: `4.8`.
        min_kernel: String = "minKernel",
    }
}
