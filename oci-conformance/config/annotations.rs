// SPDX-License-Identifier: Apache-2.0
//! config.md, Platform-specific configuration, Annotations, Extensibility and Valid values.
use super::mounts::mount;
use crate::entry::Level::{Must, MustNot, Should};
use crate::entry::{AUTHOR, Outcome, Section, check, elsewhere, tested, untestable};
use crate::standin::Break;
use crate::suite::Suite;
use serde_json::{Value, json};

pub const PLATFORM: Section = Section {
    name: "config.md#platform-specific-configuration",
    entries: &[elsewhere("1", Must, "MUST be set if the target platform of this spec is windows", "Windows")],
};

pub const ANNOTATIONS: Section = Section {
    name: "config.md#annotations",
    entries: &[
        tested("1", Must, "Annotations MUST be a key-value map", |s| refused(s, json!(["one", "two"])), NO_ANNOTATIONS),
        untestable("2", Must, "Keys MUST be strings", "JSON has no other keys"),
        tested("3", MustNot, "Keys MUST NOT be an empty string", |s| refused(s, json!({ "": "value" })), NO_ANNOTATIONS),
        untestable("4", Should, "Keys SHOULD be named using a reverse domain notation", AUTHOR),
        untestable("5", Must, "annotations using keys in this namespace MUST be as described", AUTHOR),
        untestable("org.opencontainers.image.os.1", Must, "MUST have a valid value for the os property", CONVERTER),
        untestable("org.opencontainers.image.os.2", Should, CONVERSION, CONVERTER),
        untestable("org.opencontainers.image.os.version.1", Must, "valid value for the os.version property", CONVERTER),
        untestable("org.opencontainers.image.os.version.2", Should, CONVERSION, CONVERTER),
        untestable("org.opencontainers.image.os.features.1", Must, "valid value for the os.features property", CONVERTER),
        untestable("org.opencontainers.image.os.features.2", Should, CONVERSION, CONVERTER),
        untestable("org.opencontainers.image.architecture.1", Must, "valid value for the architecture property", CONVERTER),
        untestable("org.opencontainers.image.architecture.2", Should, CONVERSION, CONVERTER),
        untestable("org.opencontainers.image.variant.1", Must, "valid value for the variant property", CONVERTER),
        untestable("org.opencontainers.image.variant.2", Should, CONVERSION, CONVERTER),
        untestable("org.opencontainers.image.author.1", Must, "valid value for the author property", CONVERTER),
        untestable("org.opencontainers.image.author.2", Should, CONVERSION, CONVERTER),
        untestable("org.opencontainers.image.created.1", Must, "valid value for the created property", CONVERTER),
        untestable("org.opencontainers.image.created.2", Should, CONVERSION, CONVERTER),
        untestable(
            "org.opencontainers.image.stopSignal.1",
            Should,
            "Indicates signal that SHOULD be sent",
            "kill is given its signal by the caller (runtime.md#kill); only a caller that chooses one can follow this",
        ),
        untestable("org.opencontainers.image.stopSignal.2", Must, "valid value for the config.StopSignal property", CONVERTER),
        untestable("org.opencontainers.image.stopSignal.3", Should, CONVERSION, CONVERTER),
        untestable("6", MustNot, "MUST NOT be used by subsequent specifications", "it binds later specifications"),
        tested(
            "7",
            Must,
            "Runtimes MUST handle unknown annotation keys",
            unknown_annotation,
            Break::DenyIf(|config| config["annotations"].to_string().contains("conformance")),
        ),
        tested("8", Must, "Values MUST be strings", |s| refused(s, json!({ "com.example.key": 1 })), NO_ANNOTATIONS),
    ],
};

const CONVERSION: &str = "This annotation SHOULD only be used in accordance with the OCI image specification";
const CONVERTER: &str = "it binds whatever makes a configuration from an image; to a runtime the value is any string";
const NO_ANNOTATIONS: Break = Break::Config(|config| config["annotations"] = json!({}));

pub const EXTENSIBILITY: Section = Section {
    name: "config.md#extensibility",
    entries: &[tested(
        "1",
        Must,
        "MUST otherwise ignore them",
        unknown_properties,
        Break::DenyIf(|config| config["linux"]["conformance"].is_object()),
    )],
};

pub const VALID_VALUES: Section = Section {
    name: "config.md#valid-values",
    entries: &[tested(
        "1",
        Must,
        "MUST generate an error when invalid or unsupported values are encountered",
        invalid_values,
        Break::Config(|config| config["linux"]["rootfsPropagation"] = json!("private")),
    )],
};

fn refused(suite: &Suite, annotations: Value) -> Outcome {
    suite.refuses(|config| config["annotations"] = annotations)
}

fn unknown_annotation(suite: &Suite) -> Outcome {
    let annotations = json!({ "com.example.conformance": "x", "org.opencontainers.conformance": "", "conformance": "{" });
    suite.see(&["report"], |config| config["annotations"] = annotations).map(drop)
}

/// At every depth, and of every type.
fn unknown_properties(suite: &Suite) -> Outcome {
    suite
        .see(&["report"], |config| {
            mount(config, "/m", "tmpfs", "tmpfs", &[]);
            let unknown = json!({ "a": [1, null, { "b": true }] });
            config["conformance"] = json!(7);
            config["linux"]["conformance"] = unknown.clone();
            config["process"]["conformance"] = json!("text");
            config["process"]["user"]["conformance"] = json!(null);
            config["root"]["conformance"] = json!([]);
            config["linux"]["namespaces"][0]["conformance"] = unknown;
            let last = config["mounts"].as_array().map_or(0, |mounts| mounts.len() - 1);
            config["mounts"][last]["conformance"] = json!(true);
        })
        .map(drop)
}

/// One wrong value each, of properties for which the document lists the right ones.
fn invalid_values(suite: &Suite) -> Outcome {
    type Spoil = (&'static str, fn(&mut Value));
    let spoils: [Spoil; 8] = [
        ("linux.rootfsPropagation", |config| config["linux"]["rootfsPropagation"] = json!("conformance")),
        ("linux.namespaces[].type", |config| config["linux"]["namespaces"][0]["type"] = json!("conformance")),
        ("linux.devices[].type", |config| {
            config["linux"]["devices"] = json!([{ "type": "x", "path": "/dev/conformance", "major": 1, "minor": 3 }]);
        }),
        ("linux.seccomp.syscalls[].action", |config| {
            config["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{ "names": ["mkdir"], "action": "SCMP_ACT_CONFORMANCE" }],
            });
        }),
        ("linux.personality.domain", |config| config["linux"]["personality"] = json!({ "domain": "CONFORMANCE" })),
        ("process.ioPriority.class", |config| {
            config["process"]["ioPriority"] = json!({ "class": "IOPRIO_CLASS_CONFORMANCE", "priority": 4 });
        }),
        ("process.scheduler.policy", |config| config["process"]["scheduler"] = json!({ "policy": "SCHED_CONFORMANCE" })),
        ("process.user.uid", |config| config["process"]["user"]["uid"] = json!(-1)),
    ];
    let mut accepted = Vec::new();
    for (what, spoil) in spoils {
        if suite.refuses(spoil).is_err() {
            accepted.push(what);
        }
    }
    check!(accepted.is_empty(), "wrong values are accepted for {}", accepted.join(", "));
    Ok(())
}
