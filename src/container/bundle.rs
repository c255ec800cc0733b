// SPDX-License-Identifier: Apache-2.0
//! From a bundle to a plan: config.json is read once, checked whole, and planned before anything is made (runtime.md, Create; bundle.md).

use crate::error::{Error, Kind, Result, Told};
use crate::linux::fd;
use crate::linux::types::Errno;
use crate::plan::{self, Host, Plan, Request};
use crate::spec::types::Spec;
use crate::spec::{Problem, load, validate};

/// The largest config.json that is read, in bytes.
pub const CONFIG_MAX: usize = 32 << 20;

/// A bundle that has been read and checked.
#[derive(Debug)]
pub struct Bundle {
    /// config.json as it was read.
    pub bytes: Vec<u8>,
    /// What it says.
    pub spec: Spec,
    /// The root filesystem, absolute.
    pub rootfs: String,
    /// What the specification wants to be warned of.
    pub warnings: Vec<String>,
}

/// Reads and checks the configuration of a bundle.
pub fn read(bundle: &str) -> Result<Bundle> {
    read_config(bundle, None)
}

/// Reads and checks the configuration of a bundle, which is its config.json or this file instead.
pub fn read_config(bundle: &str, config: Option<&str>) -> Result<Bundle> {
    let is_there = || {
        let opened = fd::open_dir_path(bundle).told(|| format!("cannot open the bundle {bundle}"));
        opened.map(drop).map_err(|error| error.hint("--bundle names the directory with config.json"))
    };
    if config.is_some() {
        is_there()?;
    }
    let path = config.map_or_else(|| format!("{bundle}/config.json"), String::from);
    let opened = fd::open_given(&path);
    if opened.is_err() {
        is_there()?;
    }
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.errno == Errno::ENOENT => {
            let (name, hint) = match config {
                Some(path) => (path, "--config names it, seen from where the command is given".to_string()),
                None => ("config.json", format!("the bundle is {bundle}; `spec` writes a config.json to begin with")),
            };
            return Err(Error::new(Kind::Config, format!("JSON specification file {name} not found"))
                .call(error.call, error.errno)
                .hint(hint));
        }
        Err(error) => return Err(Error::from(error).doing(format!("cannot open {path}"))),
    };
    let bytes = fd::read_given(&file, CONFIG_MAX).told(|| format!("cannot read {path}"))?;
    let spec = load::parse_config(&bytes).map_err(|problems| refused("config.json", problems))?;
    let checked = validate::config(&spec);
    if !checked.problems.is_empty() {
        return Err(refused("config.json", checked.problems));
    }
    let rootfs = rootfs_path(bundle, spec.root.as_ref().map_or("", |root| root.path.as_str()));
    let warnings = checked.warnings.iter().map(|warning| format!("{}: {}", warning.at, warning.rule)).collect();
    Ok(Bundle { bytes, spec, rootfs, warnings })
}

/// The plan for a bundle that has been read.
pub fn plan(bundle: &Bundle, request: &Request, host: &Host) -> Result<Plan> {
    let mut plan = plan::create(&bundle.spec, request, host).map_err(|problems| refused("config.json", problems))?;
    plan.warnings.splice(0..0, bundle.warnings.iter().cloned());
    Ok(plan)
}

/// root.path from `/` on: relative ones are seen from the bundle.
pub fn rootfs_path(bundle: &str, path: &str) -> String {
    match path.starts_with('/') {
        true => path.to_string(),
        false => format!("{}/{}", bundle.trim_end_matches('/'), path.trim_start_matches("./").trim_end_matches('/')),
    }
}

/// One error that names every problem of a file.
pub fn refused(file: &str, problems: Vec<Problem>) -> Error {
    let error = match &problems[..] {
        [one] => Error::new(Kind::Config, format!("{file}: {}", one.rule)).at(&one.at),
        more => {
            let all: Vec<String> = more.iter().map(|problem| format!("{} ({})", problem.rule, problem.at)).collect();
            Error::new(Kind::Config, format!("{file}: {}", all.join("; ")))
        }
    };
    // The configuration comes first: as long as that is wrong, it may be what asks too much of the host.
    match problems.iter().map(|problem| problem.cause).collect::<Option<Vec<_>>>().as_deref() {
        Some([first, ..]) => error.cause(*first),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[test]
    fn root_path_is_seen_from_the_bundle() {
        assert_eq!(rootfs_path("/b", "rootfs"), "/b/rootfs");
        assert_eq!(rootfs_path("/b/", "./rootfs/"), "/b/rootfs");
        assert_eq!(rootfs_path("/b", "/srv/root"), "/srv/root");
    }

    #[test]
    fn every_problem_is_told() {
        let error = refused("config.json", vec![Problem::new("a.b", "is wrong"), Problem::new("c", "is missing")]);
        assert_eq!(error.to_string(), "config.json: is wrong (a.b); is missing (c)");
        assert_eq!(error.code(), Code::Config);
    }

    #[test]
    fn a_host_that_cannot_is_no_mistake_of_the_configuration() {
        let host = || Problem::new("process.apparmorProfile", "is not enabled").cause(Code::LsmMissing);
        assert_eq!(refused("config.json", vec![host()]).code(), Code::LsmMissing);
        assert_eq!(refused("config.json", vec![host(), host()]).code(), Code::LsmMissing);
        assert_eq!(refused("config.json", vec![host(), Problem::new("a", "is wrong")]).code(), Code::Config);
    }
}
