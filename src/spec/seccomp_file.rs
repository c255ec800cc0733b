// SPDX-License-Identifier: Apache-2.0
//! Seccomp profiles in the files that people have them in: a config.json, its object `linux.seccomp` by itself, or a profile of Docker,
//! containerd or Podman. Called by `berth seccomp`.

use super::types::{CallNames, DockerFilter, DockerProfile, DockerRule, Seccomp};
use super::{Problem, load};

/// A profile that has been read.
#[derive(Clone, Debug, Default)]
pub struct SeccompFile {
    /// It, with every rule.
    pub seccomp: Seccomp,
    /// What stands before the names of its fields: `linux.seccomp.`, or nothing.
    pub prefix: &'static str,
    more: DockerProfile,
}

/// For which container a profile of Docker's is meant.
#[derive(Clone, Debug, Default)]
pub struct Meant<'a> {
    /// The host's architecture, as `linux.seccomp.architectures` names it.
    pub native: &'a str,
    /// The same, as Docker calls it.
    pub docker_arch: &'a str,
    /// The container's capabilities.
    pub caps: &'a [String],
    /// The kernel: major, minor.
    pub kernel: (u16, u16),
}

/// Reads a profile. None where the file is a config.json without one.
pub fn parse(bytes: &[u8]) -> Result<Option<SeccompFile>, Vec<Problem>> {
    let spec = load::parse_config(bytes)?;
    if spec.linux.is_some() || spec.process.is_some() || !spec.oci_version.is_empty() {
        let seccomp = spec.linux.and_then(|linux| linux.seccomp);
        return Ok(seccomp.map(|seccomp| SeccompFile { seccomp, prefix: "linux.seccomp.", more: DockerProfile::default() }));
    }
    let (mut seccomp, more) = load::parse_seccomp(bytes)?;
    if seccomp.default_action.is_empty() {
        return Err(vec![Problem::new("defaultAction", "is required: this is no seccomp profile")]);
    }
    for (rule, more) in seccomp.syscalls.iter_mut().zip(&more.syscalls).filter(|(_, more)| !more.name.is_empty()) {
        rule.names.push(&more.name);
    }
    Ok(Some(SeccompFile { seccomp, prefix: "", more }))
}

impl SeccompFile {
    /// The profile as an engine gives it to this container: rules that are not for it name nothing any more, and keep their places. With
    /// it, which those are and why.
    pub fn meant_for(&self, container: &Meant<'_>) -> (Seccomp, Vec<(usize, String)>) {
        let mut seccomp = self.seccomp.clone();
        let mut left_out = Vec::new();
        for (index, more) in self.more.syscalls.iter().enumerate() {
            if let (Some(why), Some(rule)) = (not_for(more, container), seccomp.syscalls.get_mut(index)) {
                rule.names = CallNames::default();
                left_out.push((index, why));
            }
        }
        if let Some(map) = self.more.arch_map.iter().find(|map| map.architecture == container.native) {
            seccomp.architectures = vec![map.architecture.clone()];
            seccomp.architectures.extend(map.sub_architectures.iter().cloned());
        }
        (seccomp, left_out)
    }
}

/// Why a rule is not for a container, if it is not.
fn not_for(rule: &DockerRule, container: &Meant<'_>) -> Option<String> {
    let none = DockerFilter::default();
    let (includes, excludes) = (rule.includes.as_ref().unwrap_or(&none), rule.excludes.as_ref().unwrap_or(&none));
    let arch = |arches: &[String]| arches.iter().any(|arch| arch == container.docker_arch);
    let has = |cap: &&String| container.caps.contains(cap);
    let old = |least: &str| !least.is_empty() && version(least) > container.kernel;
    if let Some(cap) = excludes.caps.iter().find(has) {
        return Some(format!("excludes.caps has {cap}"));
    }
    if arch(&excludes.arches) {
        return Some(format!("excludes.arches has {}", container.docker_arch));
    }
    if !excludes.min_kernel.is_empty() && !old(&excludes.min_kernel) {
        return Some(format!("excludes.minKernel is {}", excludes.min_kernel));
    }
    if let Some(cap) = includes.caps.iter().find(|cap| !has(cap)) {
        return Some(format!("includes.caps has {cap}"));
    }
    if !includes.arches.is_empty() && !arch(&includes.arches) {
        return Some(format!("includes.arches has not {}", container.docker_arch));
    }
    old(&includes.min_kernel).then(|| format!("includes.minKernel is {}", includes.min_kernel))
}

/// `4.8`, or `5.10.3`.
fn version(text: &str) -> (u16, u16) {
    let mut numbers = text.split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCKERS: &str = r#"{
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
        "archMap": [{ "architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"] }],
        "syscalls": [
            { "names": ["read"], "action": "SCMP_ACT_ALLOW" },
            { "name": "ptrace", "action": "SCMP_ACT_ALLOW", "includes": { "minKernel": "4.8" } },
            { "names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": { "caps": ["CAP_SYS_ADMIN"] } },
            { "names": ["clone"], "action": "SCMP_ACT_ALLOW", "excludes": { "caps": ["CAP_SYS_ADMIN"], "arches": ["s390x"] } },
            { "names": ["arch_prctl"], "action": "SCMP_ACT_ALLOW", "includes": { "arches": ["amd64", "x32"] }, "excludes": null }
        ] }"#;

    fn left_out(caps: &[&str], docker_arch: &str, kernel: (u16, u16)) -> Vec<usize> {
        let file = parse(DOCKERS.as_bytes()).unwrap().unwrap();
        let caps: Vec<String> = caps.iter().map(|cap| (*cap).into()).collect();
        let meant = Meant { native: "SCMP_ARCH_X86_64", docker_arch, caps: &caps, kernel };
        let (seccomp, left_out) = file.meant_for(&meant);
        assert_eq!(seccomp.architectures.len(), 3);
        assert!(left_out.iter().all(|(index, _)| seccomp.syscalls[*index].names.is_empty()));
        left_out.into_iter().map(|(index, _)| index).collect()
    }

    #[test]
    fn rules_of_dockers_are_for_some_containers() {
        assert_eq!(left_out(&[], "amd64", (6, 1)), [2]);
        assert_eq!(left_out(&["CAP_SYS_ADMIN"], "amd64", (6, 1)), [3]);
        assert_eq!(left_out(&[], "amd64", (4, 7)), [1, 2]);
        assert_eq!(left_out(&[], "s390x", (4, 8)), [2, 3, 4]);
        assert_eq!(parse(DOCKERS.as_bytes()).unwrap().unwrap().seccomp.syscalls[1].names, ["ptrace"].iter().collect());
    }

    #[test]
    fn each_kind_of_file() {
        let config = r#"{"ociVersion":"1.0.0","linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW"}}}"#;
        let file = parse(config.as_bytes()).unwrap().unwrap();
        assert_eq!((file.prefix, file.seccomp.default_action.as_str()), ("linux.seccomp.", "SCMP_ACT_ALLOW"));
        assert!(parse(br#"{"ociVersion":"1.0.0"}"#).unwrap().is_none());
        let bare = parse(br#"{"defaultAction":"SCMP_ACT_ALLOW"}"#).unwrap().unwrap();
        assert_eq!(bare.prefix, "");
        assert_eq!(parse(b"{}").unwrap_err()[0].at, "defaultAction");
        assert_eq!(parse(br#"{"defaultAction":1}"#).unwrap_err()[0].at, "defaultAction");
    }
}
