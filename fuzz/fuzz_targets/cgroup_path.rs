// SPDX-License-Identifier: Apache-2.0
//! Any text as a cgroupsPath, the value of `exec --cgroup`, a unit's property, an id: what is read never leads above where it begins, and
//! names no cgroup that is not a container's own.
#![no_main]

use berth::plan::Id;
use berth::plan::resources::gvariant;
use berth::plan::resources::path::{Cgroupfs, SubCgroup, Systemd, clean};
use libfuzzer_sys::fuzz_target;

/// A directory below a root, and not the root.
fn assert_inside(path: &str) {
    assert!(path.starts_with('/') && path.len() > 1 && !path.contains('\0'), "{path:?}");
    assert!(path[1..].split('/').all(|part| !["", ".", ".."].contains(&part)), "{path:?}");
}

fuzz_target!(|text: &str| {
    let cleaned = clean(text);
    assert_eq!(clean(&cleaned), cleaned);
    if let Ok(path) = Cgroupfs::parse(text, "id") {
        for own in ["/", "/system.slice/engine.service", "/a/b (deleted)"] {
            assert_inside(&path.in_v2(own));
            assert_inside(&path.in_v1(own));
            if !text.starts_with('/') && !text.is_empty() {
                let above = own.strip_suffix(" (deleted)").unwrap_or(own).trim_end_matches('/');
                assert!(path.in_v1(own).starts_with(&format!("{above}/")), "{text:?} leads out of {own}");
            }
        }
    }
    for user in [false, true] {
        if let Ok(systemd) = Systemd::parse(text, "id", user) {
            assert_inside(&systemd.path);
            assert!(!systemd.unit.contains('/') && systemd.path.ends_with(&systemd.unit), "{systemd:?}");
            assert_eq!(systemd.is_slice(), systemd.unit.ends_with(".slice"));
        }
    }
    if let Ok(below) = SubCgroup::parse(text) {
        assert!(!below.path.starts_with('/') && below.path.split('/').all(|part| part != ".."), "{below:?}");
        assert!(below.path.is_empty() || clean(&below.path) == format!("/{}", below.path), "{below:?}");
        assert!(below.controllers.iter().all(|name| !name.is_empty()), "{below:?}");
    }
    if let Ok(id) = Id::parse(text) {
        assert!(!["", ".", ".."].contains(&id.as_str()) && id.as_str().len() <= Id::MAX);
        assert!(id.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte)), "{id:?}");
    }
    if let Ok(value) = gvariant::parse(text) {
        assert!(!value.signature().is_empty());
    }
});
