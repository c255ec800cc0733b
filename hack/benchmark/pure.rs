// SPDX-License-Identifier: Apache-2.0
//! Micro-benchmarks of what is pure: reading config.json, making the plan, compiling a seccomp profile, Docker's default of each.
//! `cargo bench` runs them. Not part of the program.

use std::hint::black_box;

use berth::plan::{self, CgroupManager, Host, Id, Request, seccomp_profile};
use berth::spec::load::parse_config;
use criterion::{Criterion, criterion_group, criterion_main};

const DOCKER: &[u8] = include_bytes!("../../src/spec/fixtures/docker.json");

fn pure(criterion: &mut Criterion) {
    let Ok(spec) = parse_config(DOCKER) else { panic!("the fixture is refused") };
    let host = Host { apparmor: true, ..Host::example() };
    let Ok(id) = Id::parse("example") else { panic!("no id") };
    let mut request = Request::create(id, "/bundle", "/run/berth");
    request.console_socket = Some("/console.sock".to_string());
    request.cgroup_manager = CgroupManager::Systemd;
    assert!(plan::create(&spec, &request, &host).is_ok(), "the fixture cannot be planned");
    criterion.bench_function("read and check config.json", |bencher| bencher.iter(|| parse_config(black_box(DOCKER)).is_ok()));
    criterion.bench_function("plan", |bencher| bencher.iter(|| plan::create(black_box(&spec), &request, &host).is_ok()));
    criterion.bench_function("compile seccomp", |bencher| {
        bencher.iter(|| seccomp_profile::load(black_box(&spec), &mut Vec::new()).is_ok())
    });
}

criterion_group!(benches, pure);
criterion_main!(benches);
