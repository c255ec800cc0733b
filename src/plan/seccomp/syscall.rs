// SPDX-License-Identifier: Apache-2.0
//! System calls by number, on every architecture: reads the generated `table.rs`.
//! Called by `rules.rs` for what a profile names and by `explain.rs` for its words.

use super::arch::Arch;
use super::table;
use crate::spec::syscall::COUNT;

pub use crate::spec::syscall::Syscall;

/// A multiplexing system call as seen by one of its subcalls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subcall {
    /// The number of socketcall(2) or ipc(2).
    pub number: u32,
    /// The value of its first argument.
    pub call: u8,
}

const ABSENT: u16 = 0xffff;
/// ARM's private calls (`__ARM_NR_BASE` of asm/unistd.h), and where the table keeps them.
const ARM_PRIVATE: u32 = 0xf_0000;
const ARM_PRIVATE_SHORT: u16 = 0xf000;
/// socketcall(2) and ipc(2) have these numbers, above [`Arch::first_number`], wherever they exist.
const SOCKETCALL: u32 = 102;
const IPC: u32 = 117;

impl Syscall {
    /// The system call with that number on that architecture. Reads the whole column: for messages.
    pub fn from_number(arch: Arch, number: u32) -> Option<Syscall> {
        Syscall::all().find(|s| s.number(arch) == Some(number))
    }

    /// Its own number on an architecture, if it has one there.
    pub fn number(self, arch: Arch) -> Option<u32> {
        Column::of(arch).number(self)
    }

    /// How it can also be reached through socketcall(2) or ipc(2) on that architecture.
    pub fn subcall(self, arch: Arch) -> Option<Subcall> {
        Column::of(arch).subcall(self)
    }
}

/// The numbers of one architecture, to ask for many.
#[derive(Clone, Copy)]
pub struct Column {
    numbers: &'static [u16; COUNT],
    first: u32,
    /// Numbers from here on are [`ARM_PRIVATE`] calls; [`ABSENT`] where there are none.
    private: u16,
    multiplexers: bool,
}

impl Column {
    /// Those of this architecture.
    pub fn of(arch: Arch) -> Column {
        let private = if arch == Arch::Arm { ARM_PRIVATE_SHORT } else { ABSENT };
        Column { numbers: column(arch), first: arch.first_number(), private, multiplexers: arch.has_multiplexers() }
    }

    /// As [`Syscall::number`].
    #[inline(always)]
    pub fn number(&self, syscall: Syscall) -> Option<u32> {
        match self.numbers[syscall.place()] {
            ABSENT => None,
            short if short >= self.private => Some(ARM_PRIVATE + u32::from(short - ARM_PRIVATE_SHORT)),
            short => Some(self.first + u32::from(short)),
        }
    }

    /// What the table has: what the number is above [`Arch::first_number`], of one that is below [`ARM_PRIVATE_SHORT`].
    #[inline(always)]
    pub fn short(&self, syscall: Syscall) -> u16 {
        self.numbers[syscall.place()]
    }

    /// The subcalls of these, where the architecture has any.
    pub fn subcalls(&self, syscalls: impl Iterator<Item = Syscall>) -> impl Iterator<Item = Subcall> {
        let asked = self.multiplexers.then_some(syscalls);
        asked.into_iter().flatten().filter_map(|syscall| self.subcall(syscall))
    }

    /// As [`Syscall::subcall`].
    #[inline(always)]
    pub fn subcall(&self, syscall: Syscall) -> Option<Subcall> {
        if !self.multiplexers {
            return None;
        }
        let code = table::SUBCALLS[syscall.place()];
        let (multiplexer, call) = match code {
            0 => return None,
            code if code & 0x80 == 0 => (SOCKETCALL, code),
            code => (IPC, code & 0x7f),
        };
        Some(Subcall { number: self.first + multiplexer, call })
    }
}

/// Architectures that differ only in byte order share a column.
fn column(arch: Arch) -> &'static [u16; COUNT] {
    match arch {
        Arch::X86 => &table::X86,
        Arch::X86_64 => &table::X86_64,
        Arch::X32 => &table::X32,
        Arch::Arm => &table::ARM,
        Arch::Aarch64 => &table::AARCH64,
        Arch::Mips | Arch::Mipsel => &table::MIPS_O32,
        Arch::Mips64 | Arch::Mipsel64 => &table::MIPS_N64,
        Arch::Mips64N32 | Arch::Mipsel64N32 => &table::MIPS_N32,
        Arch::Ppc => &table::PPC,
        Arch::Ppc64 | Arch::Ppc64Le => &table::PPC64,
        Arch::S390 => &table::S390,
        Arch::S390X => &table::S390X,
        Arch::Parisc => &table::PARISC,
        Arch::Parisc64 => &table::PARISC64,
        Arch::Riscv64 => &table::RISCV64,
        Arch::Loongarch64 => &table::LOONGARCH64,
        Arch::M68k => &table::M68K,
        Arch::Sh | Arch::Sheb => &table::SH,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_known_numbers() {
        for (name, arch, number) in [
            ("read", Arch::X86_64, Some(0)),
            ("read", Arch::X86, Some(3)),
            ("read", Arch::X32, Some(0x4000_0000)),
            ("read", Arch::Mipsel64, Some(5000)),
            ("open", Arch::Aarch64, None),
            ("openat", Arch::Aarch64, Some(56)),
            ("socketcall", Arch::X86_64, None),
            ("socketcall", Arch::S390X, Some(102)),
            ("socket", Arch::X86, Some(359)),
            ("semop", Arch::X86, None),
            ("cacheflush", Arch::Arm, Some(0xf0002)),
            ("riscv_flush_icache", Arch::Riscv64, Some(259)),
            ("memfd_secret", Arch::Loongarch64, Some(447)),
            // Linux 6.17: the newest that a profile is likely to name
            ("file_setattr", Arch::X86_64, Some(469)),
            ("file_setattr", Arch::Mips, Some(4469)),
        ] {
            let syscall = Syscall::from_name(name).expect(name);
            assert_eq!(syscall.number(arch), number, "{name} on {arch:?}");
        }
    }

    #[test]
    fn the_multiplexers_are_where_they_should_be() {
        let socketcall = Syscall::from_name("socketcall").expect("socketcall");
        let ipc = Syscall::from_name("ipc").expect("ipc");
        for arch in Arch::ALL {
            let expected = arch.has_multiplexers();
            let base = arch.first_number();
            assert_eq!(socketcall.number(arch), expected.then_some(base + SOCKETCALL), "{arch:?}");
            assert_eq!(ipc.number(arch), expected.then_some(base + IPC), "{arch:?}");
        }
        let sub = |name| Syscall::from_name(name).and_then(|s| s.subcall(Arch::X86));
        assert_eq!(sub("socket"), Some(Subcall { number: 102, call: 1 }));
        assert_eq!(sub("sendmmsg"), Some(Subcall { number: 102, call: 20 }));
        assert_eq!(sub("shmctl"), Some(Subcall { number: 117, call: 24 }));
        assert_eq!(sub("read"), None);
    }

    #[test]
    fn numbers_are_distinct_but_for_known_aliases() {
        for arch in Arch::ALL {
            let mut seen: Vec<(u32, &str)> = Syscall::all().filter_map(|s| s.number(arch).map(|n| (n, s.name()))).collect();
            seen.sort_unstable();
            for pair in seen.windows(2) {
                if pair[0].0 == pair[1].0 {
                    let names = (pair[0].1, pair[1].1);
                    assert!(
                        matches!(names, ("arm_sync_file_range", "sync_file_range2")),
                        "{arch:?}: {names:?} share {}",
                        pair[0].0
                    );
                }
            }
        }
    }
}
