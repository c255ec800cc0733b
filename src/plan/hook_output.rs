// SPDX-License-Identifier: Apache-2.0
//! crun's annotations for what hooks print: `run.oci.hooks.stdout` and `run.oci.hooks.stderr` name files of the host that it is appended
//! to, made where they are missing. PURE.

use std::path::Path;

use super::HookOutput;
use crate::spec::{Problem, Spec};

/// The file of the standard output.
pub const STDOUT: &str = "run.oci.hooks.stdout";
/// The file of the standard error.
pub const STDERR: &str = "run.oci.hooks.stderr";

/// Where the hooks of this configuration print. A path that is not absolute is seen from the bundle.
pub fn of(spec: &Spec, bundle: &str) -> HookOutput {
    let file = |name: &str| {
        let path = spec.annotations.get(name)?;
        Some(Path::new(bundle).join(path).to_string_lossy().into_owned())
    };
    HookOutput { stdout: file(STDOUT), stderr: file(STDERR) }
}

/// What can be told without a look at the host: a path that no file can have.
pub(super) fn rules(spec: &Spec) -> impl Iterator<Item = Problem> + '_ {
    [STDOUT, STDERR].into_iter().filter_map(|name| {
        let rule = match spec.annotations.get(name)? {
            path if path.is_empty() => "is empty: it must be the path of a file",
            path if path.ends_with('/') => "is the path of a directory: it must be that of a file",
            path if path.contains('\0') => "has a NUL byte in it",
            _ => return None,
        };
        Some(Problem::new(at(name), rule))
    })
}

/// `annotations["run.oci.hooks.stdout"]`
pub fn at(name: &str) -> String {
    format!("annotations[{name:?}]")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Host, Id, ParentOp, Request};
    use crate::spec::fixtures;
    use crate::spec::types::{Hook, Hooks};

    fn planned(annotations: &[(&str, &str)], hooks: bool) -> Result<Vec<ParentOp>, Vec<Problem>> {
        let mut spec = fixtures::spec("containerd-cri");
        spec.annotations.extend(annotations.iter().map(|(name, value)| (name.to_string(), value.to_string())));
        let hook = Hook { path: "/bin/true".into(), ..Hook::default() };
        spec.hooks = hooks.then(|| Hooks { poststop: vec![hook], ..Hooks::default() });
        let request = Request::create(Id::parse("x").unwrap(), "/bundle", "/run/berth");
        let host = Host { apparmor: true, ..Host::example() };
        crate::plan::create(&spec, &request, &host).map(|plan| plan.parent.into_iter().map(|step| step.op).collect())
    }

    fn opened(annotations: &[(&str, &str)], hooks: bool) -> Option<HookOutput> {
        let find = |op| if let ParentOp::OpenHookOutput(output) = op { Some(output) } else { None };
        planned(annotations, hooks).unwrap().into_iter().find_map(find)
    }

    #[test]
    fn files_are_those_of_the_annotations_seen_from_the_bundle() {
        let (out, err) = ((STDOUT, "/var/log/out"), (STDERR, "logs/err"));
        let file = |path: &str| Some(path.to_string());
        let both = HookOutput { stdout: file("/var/log/out"), stderr: file("/bundle/logs/err") };
        assert_eq!(opened(&[out, err], true), Some(both));
        assert_eq!(opened(&[err], true), Some(HookOutput { stdout: None, stderr: file("/bundle/logs/err") }));
        assert_eq!(opened(&[], true), None);
        assert_eq!(opened(&[out, err], false), None, "nobody would print");
    }

    #[test]
    fn what_no_file_can_be_called_is_refused() {
        for (name, path, words) in [(STDOUT, "", "is empty"), (STDERR, "/var/log/", "a directory"), (STDERR, "/a\0b", "NUL")] {
            for hooks in [true, false] {
                let problems = planned(&[(name, path)], hooks).unwrap_err();
                assert_eq!(problems[0].at, format!("annotations[\"{name}\"]"));
                assert!(problems[0].rule.contains(words), "{problems:?}");
            }
        }
    }
}
