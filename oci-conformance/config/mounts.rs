// SPDX-License-Identifier: Apache-2.0
//! config.md, Specification version, Root and Mounts.
use crate::entry::Level::{Must, MustNot, Should};
use crate::entry::{AUTHOR, Outcome, Section, check, elsewhere, tested, untestable};
use crate::standin::Break;
use crate::suite::Suite;
use serde_json::{Value, json};

pub const SPECIFICATION_VERSION: Section = Section {
    name: "config.md#specification-version",
    entries: &[tested(
        "1",
        Must,
        "MUST be in SemVer v2.0.0 format",
        version,
        Break::Config(|config| config["ociVersion"] = json!("1.0.2")),
    )],
};

pub const ROOT: Section = Section {
    name: "config.md#root",
    entries: &[
        elsewhere("1", MustNot, "For Hyper-V Containers", "Windows"),
        elsewhere("2", Must, "On Windows, path MUST be a volume GUID path", "Windows"),
        untestable("3", Should, "The value SHOULD be the conventional rootfs", AUTHOR),
        tested(
            "4",
            Must,
            "A directory MUST exist at the path",
            root_missing,
            Break::Config(|config| config["root"]["path"] = json!("rootfs")),
        ),
        tested(
            "5",
            Must,
            "the root filesystem MUST be read-only inside the container",
            root_readonly,
            Break::Config(|config| config["root"]["readonly"] = json!(false)),
        ),
        elsewhere("6", Must, "On Windows, this field MUST be omitted or false", "Windows"),
    ],
};

pub const MOUNTS: Section = Section {
    name: "config.md#mounts",
    entries: &[
        tested(
            "1",
            Must,
            "MUST mount entries in the listed order",
            order,
            Break::Config(|config| config["mounts"].as_array_mut().into_iter().for_each(|mounts| mounts.reverse())),
        ),
        untestable("2", Should, "This value SHOULD be an absolute path", AUTHOR),
        tested(
            "3",
            Must,
            "it MUST be interpreted as relative to \"/\"",
            relative,
            Break::Config(|config| drop(config["mounts"].as_array_mut().map(Vec::pop))),
        ),
        elsewhere("4", Must, "This value MUST be an absolute path", "Windows"),
        elsewhere("5", MustNot, "One mount destination MUST NOT be nested", "Windows"),
        elsewhere("6", Must, "This value MUST be an absolute path", "Solaris"),
        elsewhere("7", Must, "This value MUST be an absolute path", "neither Linux, Windows nor Solaris"),
        elsewhere("8", Must, "runtimes MUST support ro", "Windows"),
    ],
};

/// Adds a mount to the configuration.
pub fn mount(config: &mut Value, destination: &str, kind: &str, source: &str, options: &[&str]) {
    let mount = json!({ "destination": destination, "type": kind, "source": source, "options": options });
    config["mounts"].as_array_mut().into_iter().for_each(|mounts| mounts.push(mount.clone()));
}

fn version(suite: &Suite) -> Outcome {
    suite.refuses(|config| config["ociVersion"] = json!("one"))
}

fn root_missing(suite: &Suite) -> Outcome {
    suite.refuses(|config| config["root"]["path"] = json!("no/such/root"))
}

fn root_readonly(suite: &Suite) -> Outcome {
    const EROFS: i64 = 30;
    let seen = suite.see(&["touch:/tmp/file"], |config| config["root"]["readonly"] = json!(true))?;
    let errno = seen.errno("touch:/tmp/file")?;
    check!(errno == EROFS, "making a file in it gives errno {errno}, not EROFS");
    let seen = suite.see(&["touch:/tmp/file"], |_| {})?;
    check!(seen.errno("touch:/tmp/file")? == 0, "without readonly, no file can be made in it");
    Ok(())
}

/// Two mounts at one place, the later one on top, and one within another.
fn order(suite: &Suite) -> Outcome {
    let mut bundle = suite.bundle()?;
    let first = bundle.folder_with("first", "first")?;
    let second = bundle.folder_with("second", "second")?;
    let outer = bundle.folder_with("outer", "outer")?;
    std::fs::create_dir(bundle.dir.join("outer/inner"))?;
    mount(&mut bundle.config, "/m", "none", &first, &["bind"]);
    mount(&mut bundle.config, "/m", "none", &second, &["bind"]);
    mount(&mut bundle.config, "/tmp", "none", &outer, &["bind"]);
    mount(&mut bundle.config, "/tmp/inner", "none", &first, &["bind"]);
    bundle.actions(&["stat:/m/second", "stat:/tmp/inner/first", "stat:/tmp/outer"]);
    let seen = bundle.see()?;
    check!(seen.errno("stat:/m/second")? == 0, "of two mounts at /m, the second is not on top");
    check!(seen.errno("stat:/tmp/outer")? == 0, "the mount at /tmp is not seen");
    check!(seen.errno("stat:/tmp/inner/first")? == 0, "the mount at /tmp/inner is not seen within that at /tmp");
    Ok(())
}

fn relative(suite: &Suite) -> Outcome {
    let seen = suite.see(&["report"], |config| {
        config["process"]["cwd"] = json!("/tmp");
        mount(config, "m", "tmpfs", "tmpfs", &["noexec"]);
    })?;
    let mount = seen.mount("/m")?;
    check!(mount.kind == "tmpfs", "a {} is mounted at /m", mount.kind);
    Ok(())
}
