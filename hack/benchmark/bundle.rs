// SPDX-License-Identifier: Apache-2.0
//! The bundles that are run: Docker's default configuration, with a program that ends at once and one that waits.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use berth::linux::types::SockFilter;
use berth::plan::seccomp_profile;
use berth::spec::load::parse_config;
use serde_json::{Value, json};

use crate::measure::Outcome;

const DOCKER: &str = include_str!("../../src/spec/fixtures/docker.json");

/// The bundles, in one folder that also holds what they bind.
pub struct Bundles {
    dir: PathBuf,
    config: Value,
}

impl Bundles {
    /// Makes `DIR/true` and `DIR/pause`; `hack/bench` has put their programs into `DIR/bin`.
    pub fn make(dir: &Path) -> Outcome<Bundles> {
        let mut config: Value = serde_json::from_str(DOCKER)?;
        fs::create_dir_all(dir.join("etc"))?;
        for name in ["resolv.conf", "hostname", "hosts"] {
            fs::write(dir.join("etc").join(name), "x\n")?;
        }
        adapt(&mut config, dir);
        let bundles = Bundles { dir: dir.to_path_buf(), config };
        bundles.write("true", |_| ())?;
        bundles.write("pause", |_| ())?;
        fs::write(dir.join("filter"), filter()?)?;
        Ok(bundles)
    }

    /// Where the bundle of this name is.
    pub fn path(&self, name: &str) -> String {
        self.dir.join(name).to_string_lossy().into_owned()
    }

    /// Where files of the benchmark's own go.
    pub fn scratch(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The configuration of all bundles, before a bundle's own change.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// Writes a bundle whose configuration `change` has changed. One of a name that begins with `pause` waits; others end at once.
    pub fn write(&self, name: &str, change: impl FnOnce(&mut Value)) -> Outcome {
        let bundle = self.dir.join(name);
        let rootfs = bundle.join("rootfs");
        for folder in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
            fs::create_dir_all(rootfs.join(folder))?;
        }
        for file in ["resolv.conf", "hostname", "hosts"] {
            fs::write(rootfs.join("etc").join(file), "")?;
        }
        for program in ["true", "pause"] {
            fs::copy(self.dir.join("bin").join(program), rootfs.join("bin").join(program))?;
        }
        if !rootfs.join("sbin").exists() {
            symlink("bin", rootfs.join("sbin"))?;
        }
        let mut config = self.config.clone();
        let program = if name.starts_with("pause") { "/bin/pause" } else { "/bin/true" };
        config["process"]["args"] = json!([program]);
        change(&mut config);
        fs::write(bundle.join("config.json"), serde_json::to_vec(&config)?)?;
        Ok(())
    }
}

/// Takes from Docker's configuration what is of its machine: paths, the hook, the unit of systemd, limits whose controllers may be missing.
fn adapt(config: &mut Value, dir: &Path) {
    config["root"] = json!({"path": "rootfs"});
    config["process"]["terminal"] = json!(false);
    if let Some(process) = config["process"].as_object_mut() {
        process.remove("consoleSize");
        process.remove("apparmorProfile");
    }
    if let Some(top) = config.as_object_mut() {
        top.remove("hooks");
    }
    if let Some(mounts) = config["mounts"].as_array_mut() {
        mounts.retain(|mount| mount["destination"] != "/data");
        for mount in mounts.iter_mut().filter(|mount| mount["type"] == "bind") {
            let name = mount["destination"].as_str().and_then(|path| path.rsplit('/').next()).unwrap_or_default().to_string();
            mount["source"] = json!(dir.join("etc").join(name));
        }
    }
    let devices = config["linux"]["resources"]["devices"].clone();
    config["linux"]["resources"] = json!({ "devices": devices });
    if let Some(linux) = config["linux"].as_object_mut() {
        linux.remove("cgroupsPath");
    }
}

/// The seccomp program that berth makes of Docker's profile, as the kernel takes it: the floor loads the same.
fn filter() -> Outcome<Vec<u8>> {
    let spec = parse_config(DOCKER.as_bytes()).map_err(|problems| format!("{problems:?}"))?;
    let load = seccomp_profile::load(&spec, &mut Vec::new()).map_err(|problems| format!("{problems:?}"))?;
    let program = load.map(|load| load.filter).unwrap_or_default();
    let bytes = |insn: &SockFilter| {
        let [k0, k1, k2, k3] = insn.k.to_ne_bytes();
        let [code0, code1] = insn.code.to_ne_bytes();
        [code0, code1, insn.jt, insn.jf, k0, k1, k2, k3]
    };
    Ok(program.iter().flat_map(bytes).collect())
}
