// SPDX-License-Identifier: Apache-2.0
//! Bundles as the callers of a runtime write them, for tests on every floor: one file per caller and kind of container.

/// Name and text of each.
pub const ALL: &[(&str, &str)] = &[
    ("buildkit", include_str!("fixtures/buildkit.json")),
    ("containerd-cri", include_str!("fixtures/containerd-cri.json")),
    ("containerd-cri-sandbox", include_str!("fixtures/containerd-cri-sandbox.json")),
    ("containerd-ctr", include_str!("fixtures/containerd-ctr.json")),
    ("crio", include_str!("fixtures/crio.json")),
    ("docker", include_str!("fixtures/docker.json")),
    ("docker-privileged", include_str!("fixtures/docker-privileged.json")),
    ("everything", include_str!("fixtures/everything.json")),
    ("podman", include_str!("fixtures/podman.json")),
    ("podman-rootless", include_str!("fixtures/podman-rootless.json")),
    ("runc-spec", include_str!("fixtures/runc-spec.json")),
    ("runc-spec-rootless", include_str!("fixtures/runc-spec-rootless.json")),
];

/// The text of one.
pub fn text(name: &str) -> &'static str {
    ALL.iter().find(|(known, _)| *known == name).map(|(_, text)| *text).expect("a fixture of this name")
}

/// One, read.
pub fn spec(name: &str) -> super::Spec {
    super::load::parse_config(text(name).as_bytes()).expect("a sound fixture")
}
