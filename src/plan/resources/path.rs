// SPDX-License-Identifier: Apache-2.0
//! `linux.cgroupsPath` made into the directories and unit names that it means (config-linux.md, "Cgroups Path").
//!
//! Called by [`super::plan`]. Everything is lexical: the hands open the result beneath the root of its hierarchy, so nothing here has
//! to be safe against symbolic links, only against `..`.

use crate::spec::Problem;

/// The field of config.json that all of this is about.
pub const FIELD: &str = "linux.cgroupsPath";

pub use crate::plan::mounts::clean;

/// Two paths that begin with `/`, one below the other.
fn join(above: &str, below: &str) -> String {
    clean(&format!("{above}/{below}"))
}

/// The directory that holds a cgroup; of the root, the root.
fn parent(cgroup: &str) -> &str {
    match cgroup.rfind('/') {
        Some(0) | None => "/",
        Some(end) => &cgroup[..end],
    }
}

/// What a cgroupsPath means to the cgroupfs driver, before the hierarchy is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroupfs {
    /// The cleaned path, which begins with `/`.
    inner: String,
    /// It counts from the root of each hierarchy, not from the runtime's own cgroup.
    absolute: bool,
}

impl Cgroupfs {
    /// Reads a cgroupsPath; empty means a cgroup named as the container, beside the runtime's own.
    pub fn parse(cgroups_path: &str, id: &str) -> Result<Cgroupfs, Problem> {
        if cgroups_path.is_empty() {
            return Ok(Cgroupfs { inner: clean(id), absolute: false });
        }
        let bad = |rule: &str| Err(Problem::new(FIELD, format!("{cgroups_path:?} {rule}")));
        if cgroups_path.contains(['\n', '\0']) {
            return bad("holds a character that no cgroup's name can have");
        }
        let inner = clean(cgroups_path);
        if inner == "/" {
            return bad("names no cgroup of its own: the root cannot be a container's");
        }
        if inner.split('/').any(|part| part.len() > 255) {
            return bad("has a part of more than 255 characters");
        }
        Ok(Cgroupfs { inner, absolute: cgroups_path.starts_with('/') })
    }

    /// The directory in the cgroup2 tree. A relative path stands beside the runtime's own cgroup and not in it: a cgroup with processes
    /// cannot have controllers enabled for its children (cgroup-v2.rst, "No Internal Process Constraint").
    pub fn in_v2(&self, own: &str) -> String {
        if self.absolute { self.inner.clone() } else { join(parent(&clean(undeleted(own))), &self.inner) }
    }

    /// The directory in one cgroup v1 hierarchy. A relative path stands in the runtime's own cgroup there.
    pub fn in_v1(&self, own: &str) -> String {
        if self.absolute { self.inner.clone() } else { join(undeleted(own), &self.inner) }
    }
}

/// /proc/PID/cgroup marks a cgroup that has been removed under its process.
fn undeleted(own: &str) -> &str {
    own.strip_suffix(" (deleted)").unwrap_or(own)
}

/// What a cgroupsPath means to the systemd driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Systemd {
    /// The slice that the unit stands in: `machine.slice`.
    pub slice: String,
    /// The unit: `docker-1234.scope`, or a slice.
    pub unit: String,
    /// The name alone, for the unit's description.
    pub name: String,
    /// Where systemd puts the unit, below its own cgroup: `/machine.slice/docker-1234.scope`.
    pub path: String,
}

impl Systemd {
    /// Reads a cgroupsPath of the form `slice:prefix:name`; empty means a scope named as the container, in the default slice of the
    /// system's manager or of the user's.
    pub fn parse(cgroups_path: &str, id: &str, user: bool) -> Result<Systemd, Problem> {
        let parts: Vec<&str> = if cgroups_path.is_empty() { vec!["", "berth", id] } else { cgroups_path.split(':').collect() };
        let [slice, prefix, name] = parts[..] else {
            return Err(Problem::new(
                FIELD,
                format!(
                    "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {cgroups_path:?} instead"
                ),
            ));
        };
        let slice = match slice {
            "" if user => "user.slice",
            "" => "system.slice",
            "-" => "-.slice",
            named => named,
        };
        let above = expand_slice(slice)?;
        let (unit, path) = if name.ends_with(".slice") {
            (name.to_string(), expand_slice(name)?)
        } else {
            let unit = format!("{prefix}-{name}.scope");
            let path = join(&above, &unit);
            (unit, path)
        };
        if !unit_name(&unit) {
            return Err(Problem::new(FIELD, format!("{unit:?} is no unit name; systemd.unit(5)")));
        }
        if path == "/" {
            return Err(Problem::new(FIELD, format!("{unit:?} is the root slice, which cannot be a container's")));
        }
        Ok(Systemd { slice: slice.to_string(), unit, name: name.to_string(), path })
    }

    /// Whether the unit is itself a slice.
    pub fn is_slice(&self) -> bool {
        self.unit.ends_with(".slice")
    }
}

/// Where a slice stands: each dash in its name is a level above it; systemd.slice(5).
fn expand_slice(slice: &str) -> Result<String, Problem> {
    let bad = || Problem::new(FIELD, format!("invalid slice name: {slice:?}; systemd.slice(5)"));
    let stem = slice.strip_suffix(".slice").filter(|_| unit_name(slice)).ok_or_else(bad)?;
    if stem == "-" {
        return Ok("/".to_string());
    }
    let mut path = String::new();
    let mut end = 0;
    for part in stem.split('-') {
        if part.is_empty() {
            return Err(bad());
        }
        end += part.len();
        path.push_str(&format!("/{}.slice", &stem[..end]));
        end += 1;
    }
    Ok(path)
}

/// Whether systemd would take this as a unit's name: at most 255 of the characters that systemd.unit(5) lists.
fn unit_name(name: &str) -> bool {
    (1..=255).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte))
}

/// One `exec --cgroup [CONTROLLER,…:]PATH`: a cgroup below the container's own, for some controllers of cgroup v1 or for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubCgroup {
    /// Controllers of cgroup v1; empty means every hierarchy, and cgroup2.
    pub controllers: Vec<String>,
    /// Below the container's cgroup, cleaned and without a slash in front; empty means that cgroup itself.
    pub path: String,
}

impl SubCgroup {
    /// Reads the option's value.
    pub fn parse(text: &str) -> Result<SubCgroup, Problem> {
        let (controllers, path) = match text.split_once(':') {
            Some((controllers, path)) => (controllers.split(',').map(String::from).collect(), path),
            None => (Vec::new(), text),
        };
        if path.is_empty() || controllers.iter().any(String::is_empty) || path.split('/').any(|part| part == "..") {
            let rule = format!(
                "bad sub cgroup path: {} is not a sub cgroup path: [CONTROLLER,...:]PATH, below the container's cgroup",
                text.escape_debug()
            );
            return Err(Problem::new("--cgroup", rule));
        }
        Ok(SubCgroup { controllers, path: clean(path).trim_start_matches('/').to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleaning_stays_below_the_root() {
        for (path, want) in [
            ("a", "/a"),
            ("/a/b", "/a/b"),
            ("../x", "/x"),
            ("../../../x", "/x"),
            ("/../x", "/x"),
            ("a//b/./c/", "/a/b/c"),
            ("a/../../b", "/b"),
            ("a/..", "/"),
            (".", "/"),
            ("", "/"),
            ("/a/.../b", "/a/.../b"),
        ] {
            assert_eq!(clean(path), want, "{path}");
        }
    }

    #[test]
    fn cgroupfs_paths() {
        // path, own cgroup, in v2, in v1
        for (path, own, v2, v1) in [
            ("/kubepods/pod1/c1", "/system.slice/x.service", "/kubepods/pod1/c1", "/kubepods/pod1/c1"),
            ("kubepods/c1", "/", "/kubepods/c1", "/kubepods/c1"),
            ("c1", "/system.slice/x.service", "/system.slice/c1", "/system.slice/x.service/c1"),
            ("../c1", "/a/b", "/a/c1", "/a/b/c1"),
            ("/../../c1", "/a/b", "/c1", "/c1"),
            ("", "/a/b", "/a/box", "/a/b/box"),
            ("", "/", "/box", "/box"),
            ("", "/a", "/box", "/a/box"),
            ("", "/../../x/y", "/x/box", "/x/y/box"),
            ("", "/a/b (deleted)", "/a/box", "/a/b/box"),
            ("a:b:c", "/a", "/a:b:c", "/a/a:b:c"),
        ] {
            let parsed = Cgroupfs::parse(path, "box").unwrap();
            assert_eq!(parsed.in_v2(own), v2, "{path} of {own} in v2");
            assert_eq!(parsed.in_v1(own), v1, "{path} of {own} in v1");
        }
    }

    #[test]
    fn cgroupfs_paths_that_name_nothing() {
        for path in ["/", ".", "..", "/../..", "a/..", "//", "a\nb", "a\0b", &"x".repeat(256)] {
            let problem = Cgroupfs::parse(path, "box").unwrap_err();
            assert_eq!(problem.at, "linux.cgroupsPath", "{path:?}");
        }
    }

    #[test]
    fn slices_expand_as_systemd_has_it() {
        for (slice, path) in [
            ("-.slice", "/"),
            ("system.slice", "/system.slice"),
            ("a-b-c.slice", "/a.slice/a-b.slice/a-b-c.slice"),
            ("kubepods-burstable-pod12_3.slice", "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod12_3.slice"),
        ] {
            assert_eq!(expand_slice(slice).unwrap(), path, "{slice}");
        }
        for bad in ["", ".slice", "a", "a.scope", "a--b.slice", "-a.slice", "a-.slice", "a/b.slice", "a b.slice", "--.slice"] {
            assert!(expand_slice(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn systemd_units() {
        let unit = |path: &str, user| Systemd::parse(path, "box", user).map(|unit| (unit.slice, unit.unit, unit.path));
        let want = |slice: &str, unit: &str, path: &str| Ok((slice.into(), unit.into(), path.into()));
        assert_eq!(unit("", false), want("system.slice", "berth-box.scope", "/system.slice/berth-box.scope"));
        assert_eq!(unit("", true), want("user.slice", "berth-box.scope", "/user.slice/berth-box.scope"));
        assert_eq!(unit(":docker:12", false), want("system.slice", "docker-12.scope", "/system.slice/docker-12.scope"));
        assert_eq!(unit("-:p:n", false), want("-.slice", "p-n.scope", "/p-n.scope"));
        assert_eq!(unit("a-b.slice:cri:n", false), want("a-b.slice", "cri-n.scope", "/a.slice/a-b.slice/cri-n.scope"));
        assert_eq!(unit("a.slice:p:x-y.slice", false), want("a.slice", "x-y.slice", "/x.slice/x-y.slice"));
        for bad in
            ["/a/b", "a:b", "a:b:c:d", "a.slice:p:n/m", "a.slice:p:n m", "a.scope:p:n", "../x.slice:p:n", "a.slice:p:-.slice"]
        {
            assert_eq!(unit(bad, false).unwrap_err().at, "linux.cgroupsPath", "{bad}");
        }
        let text = unit("/a/b", false).unwrap_err().rule;
        assert_eq!(text, "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got \"/a/b\" instead");
    }

    #[test]
    fn sub_cgroups_of_exec() {
        let parse = |text: &str| SubCgroup::parse(text).map(|sub| (sub.controllers.join(","), sub.path));
        assert_eq!(parse("a/b"), Ok(("".into(), "a/b".into())));
        assert_eq!(parse("/a"), Ok(("".into(), "a".into())));
        assert_eq!(parse("/"), Ok(("".into(), "".into())));
        assert_eq!(parse("cpu,memory:x"), Ok(("cpu,memory".into(), "x".into())));
        for bad in ["", "..", "a/../b", "../a", ":a", "cpu:", "cpu,:a"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
