// SPDX-License-Identifier: Apache-2.0
//! Any bytes as the resources file of an update, on hosts of three kinds: what is written to a cgroup is one value into one plain file of
//! it, and merging changes into what there is loses nothing that was not named.
#![no_main]

use berth::linux::types::{CapSet, CgroupMode};
use berth::plan::Host;
use berth::plan::resources::{V1Hierarchy, device_filter, limits, systemd, update};
use berth::spec::types::Resources;
use berth::spec::{load, validate};
use libfuzzer_sys::fuzz_target;

fn hosts() -> [Host; 3] {
    let names =
        ["cpuset", "cpu", "cpuacct", "blkio", "memory", "devices", "freezer", "net_cls", "net_prio", "hugetlb", "pids", "rdma"];
    let v1 = names.map(|name| V1Hierarchy {
        controllers: vec![name.to_string()],
        mount: format!("/sys/fs/cgroup/{name}"),
        own: "/".into(),
    });
    let none = Host { v2_controllers: Vec::new(), ..Host::example() };
    let user = Host { euid: 1000, egid: 1000, capabilities: CapSet(0), ..Host::example() };
    [Host::example(), user, Host { cgroup: CgroupMode::Hybrid, v1_hierarchies: v1.into(), ..none }]
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(resources) = load::parse_resources(bytes) else { return };
    if !validate::resources(&resources).problems.is_empty() {
        return;
    }
    let nothing = Resources::default();
    assert_eq!(update::merged(&resources, &nothing), resources, "no change changes something");
    let merged = update::merged(&nothing, &resources);
    assert_eq!(update::merged(&merged, &resources), merged, "the same change twice is not the same");
    for host in hosts() {
        for asked in [&resources, &update::to_write(&resources, &merged)] {
            match limits(asked, "", &host) {
                Ok(limits) => {
                    for write in &limits.writes {
                        let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'/';
                        assert!(write.file.bytes().all(plain) && write.file != ".." && write.file.contains('.'), "{write:?}");
                        assert!(!write.value.is_empty() && !write.value.contains('\0'), "{write:?}");
                    }
                    let _ = systemd::of_limits(&limits.writes);
                }
                Err(problems) => assert!(!problems.is_empty(), "refused without a reason"),
            }
        }
        for of_unit in [false, true] {
            if let Err(problems) = device_filter(&resources, "", &host, of_unit) {
                assert!(!problems.is_empty(), "refused without a reason");
            }
        }
    }
});
