// SPDX-License-Identifier: Apache-2.0
//! The architectures a seccomp filter can meet: what OCI calls them (runtime-spec config-linux.md,
//! `linux.seccomp.architectures`), what the kernel reports (`AUDIT_ARCH_*` of linux/audit.h) and how
//! their system calls and arguments are laid out. Used by every other file of this directory.

use super::Error;

/// An architecture (more exactly a system call interface) of a seccomp profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arch {
    /// 32-bit x86.
    X86,
    /// 64-bit x86.
    X86_64,
    /// 64-bit x86 with 32-bit pointers: shares its `AUDIT_ARCH_*` with [`Arch::X86_64`].
    X32,
    /// 32-bit ARM, EABI.
    Arm,
    /// 64-bit ARM.
    Aarch64,
    /// MIPS, o32, big endian.
    Mips,
    /// MIPS, n64, big endian.
    Mips64,
    /// MIPS, n32, big endian.
    Mips64N32,
    /// MIPS, o32, little endian.
    Mipsel,
    /// MIPS, n64, little endian.
    Mipsel64,
    /// MIPS, n32, little endian.
    Mipsel64N32,
    /// 32-bit PowerPC.
    Ppc,
    /// 64-bit PowerPC, big endian.
    Ppc64,
    /// 64-bit PowerPC, little endian.
    Ppc64Le,
    /// 31-bit s390.
    S390,
    /// 64-bit s390.
    S390X,
    /// 32-bit PA-RISC.
    Parisc,
    /// 64-bit PA-RISC.
    Parisc64,
    /// 64-bit RISC-V.
    Riscv64,
    /// 64-bit LoongArch.
    Loongarch64,
    /// Motorola 68000.
    M68k,
    /// SuperH, little endian.
    Sh,
    /// SuperH, big endian.
    Sheb,
}

/// `__X32_SYSCALL_BIT` of asm/unistd.h: set in the number of every x32 system call.
pub const X32_SYSCALL_BIT: u32 = 0x4000_0000;

// Parts of an AUDIT_ARCH_* value (linux/audit.h).
const LE: u32 = 0x4000_0000;
const WIDE: u32 = 0x8000_0000;
const N32: u32 = 0x2000_0000;
// ELF machine numbers (linux/elf-em.h).
const EM_386: u32 = 3;
const EM_68K: u32 = 4;
const EM_MIPS: u32 = 8;
const EM_PARISC: u32 = 15;
const EM_PPC: u32 = 20;
const EM_PPC64: u32 = 21;
const EM_S390: u32 = 22;
const EM_ARM: u32 = 40;
const EM_SH: u32 = 42;
const EM_X86_64: u32 = 62;
const EM_AARCH64: u32 = 183;
const EM_RISCV: u32 = 243;
const EM_LOONGARCH: u32 = 258;

impl Arch {
    /// Every architecture, in the order of the enumeration.
    pub const ALL: [Arch; 23] = [
        Arch::X86,
        Arch::X86_64,
        Arch::X32,
        Arch::Arm,
        Arch::Aarch64,
        Arch::Mips,
        Arch::Mips64,
        Arch::Mips64N32,
        Arch::Mipsel,
        Arch::Mipsel64,
        Arch::Mipsel64N32,
        Arch::Ppc,
        Arch::Ppc64,
        Arch::Ppc64Le,
        Arch::S390,
        Arch::S390X,
        Arch::Parisc,
        Arch::Parisc64,
        Arch::Riscv64,
        Arch::Loongarch64,
        Arch::M68k,
        Arch::Sh,
        Arch::Sheb,
    ];

    /// The architecture this program was built for.
    pub const NATIVE: Arch = native();

    /// The name in a config.json, such as `SCMP_ARCH_X86_64`.
    pub const fn oci_name(self) -> &'static str {
        match self {
            Arch::X86 => "SCMP_ARCH_X86",
            Arch::X86_64 => "SCMP_ARCH_X86_64",
            Arch::X32 => "SCMP_ARCH_X32",
            Arch::Arm => "SCMP_ARCH_ARM",
            Arch::Aarch64 => "SCMP_ARCH_AARCH64",
            Arch::Mips => "SCMP_ARCH_MIPS",
            Arch::Mips64 => "SCMP_ARCH_MIPS64",
            Arch::Mips64N32 => "SCMP_ARCH_MIPS64N32",
            Arch::Mipsel => "SCMP_ARCH_MIPSEL",
            Arch::Mipsel64 => "SCMP_ARCH_MIPSEL64",
            Arch::Mipsel64N32 => "SCMP_ARCH_MIPSEL64N32",
            Arch::Ppc => "SCMP_ARCH_PPC",
            Arch::Ppc64 => "SCMP_ARCH_PPC64",
            Arch::Ppc64Le => "SCMP_ARCH_PPC64LE",
            Arch::S390 => "SCMP_ARCH_S390",
            Arch::S390X => "SCMP_ARCH_S390X",
            Arch::Parisc => "SCMP_ARCH_PARISC",
            Arch::Parisc64 => "SCMP_ARCH_PARISC64",
            Arch::Riscv64 => "SCMP_ARCH_RISCV64",
            Arch::Loongarch64 => "SCMP_ARCH_LOONGARCH64",
            Arch::M68k => "SCMP_ARCH_M68K",
            Arch::Sh => "SCMP_ARCH_SH",
            Arch::Sheb => "SCMP_ARCH_SHEB",
        }
    }

    /// The architecture of that name in a config.json.
    pub fn from_oci(name: &str) -> Result<Arch, Error> {
        let found = Arch::ALL.into_iter().find(|a| a.oci_name() == name);
        found.ok_or_else(|| Error::UnknownArch(name.into()))
    }

    /// What the kernel puts into `seccomp_data.arch`.
    pub const fn audit(self) -> u32 {
        match self {
            Arch::X86 => EM_386 | LE,
            Arch::X86_64 | Arch::X32 => EM_X86_64 | WIDE | LE,
            Arch::Arm => EM_ARM | LE,
            Arch::Aarch64 => EM_AARCH64 | WIDE | LE,
            Arch::Mips => EM_MIPS,
            Arch::Mips64 => EM_MIPS | WIDE,
            Arch::Mips64N32 => EM_MIPS | WIDE | N32,
            Arch::Mipsel => EM_MIPS | LE,
            Arch::Mipsel64 => EM_MIPS | WIDE | LE,
            Arch::Mipsel64N32 => EM_MIPS | WIDE | LE | N32,
            Arch::Ppc => EM_PPC,
            Arch::Ppc64 => EM_PPC64 | WIDE,
            Arch::Ppc64Le => EM_PPC64 | WIDE | LE,
            Arch::S390 => EM_S390,
            Arch::S390X => EM_S390 | WIDE,
            Arch::Parisc => EM_PARISC,
            Arch::Parisc64 => EM_PARISC | WIDE,
            Arch::Riscv64 => EM_RISCV | WIDE | LE,
            Arch::Loongarch64 => EM_LOONGARCH | WIDE | LE,
            Arch::M68k => EM_68K,
            Arch::Sh => EM_SH | LE,
            Arch::Sheb => EM_SH,
        }
    }

    /// Whether conditions compare all 64 bits of an argument. libseccomp compares 32 bits on x32 and
    /// on MIPS n32 although their registers are wider; profiles count on it.
    pub const fn is_wide(self) -> bool {
        self.audit() & (WIDE | N32) == WIDE && !matches!(self, Arch::X32)
    }

    /// Whether the high half of a 64-bit argument comes first in `seccomp_data`.
    pub const fn is_big_endian(self) -> bool {
        self.audit() & LE == 0
    }

    /// Where the architecture's system call numbers begin.
    pub const fn first_number(self) -> u32 {
        match self {
            Arch::X32 => X32_SYSCALL_BIT,
            Arch::Mips | Arch::Mipsel => 4000,
            Arch::Mips64 | Arch::Mipsel64 => 5000,
            Arch::Mips64N32 | Arch::Mipsel64N32 => 6000,
            _ => 0,
        }
    }

    /// Whether sockets and System V IPC can also be reached through socketcall(2) and ipc(2).
    pub const fn has_multiplexers(self) -> bool {
        matches!(
            self,
            Arch::X86
                | Arch::Mips
                | Arch::Mipsel
                | Arch::Ppc
                | Arch::Ppc64
                | Arch::Ppc64Le
                | Arch::S390
                | Arch::S390X
                | Arch::M68k
                | Arch::Sh
                | Arch::Sheb
        )
    }
}

const fn native() -> Arch {
    let big = cfg!(target_endian = "big");
    let narrow = cfg!(target_pointer_width = "32");
    if cfg!(target_arch = "x86_64") {
        if narrow { Arch::X32 } else { Arch::X86_64 }
    } else if cfg!(target_arch = "aarch64") {
        Arch::Aarch64
    } else if cfg!(target_arch = "x86") {
        Arch::X86
    } else if cfg!(target_arch = "arm") {
        Arch::Arm
    } else if cfg!(target_arch = "riscv64") {
        Arch::Riscv64
    } else if cfg!(target_arch = "loongarch64") {
        Arch::Loongarch64
    } else if cfg!(target_arch = "s390x") {
        Arch::S390X
    } else if cfg!(target_arch = "powerpc64") {
        if big { Arch::Ppc64 } else { Arch::Ppc64Le }
    } else if cfg!(target_arch = "powerpc") {
        Arch::Ppc
    } else if cfg!(any(target_arch = "mips64", target_arch = "mips64r6")) {
        match (big, narrow) {
            (true, false) => Arch::Mips64,
            (true, true) => Arch::Mips64N32,
            (false, false) => Arch::Mipsel64,
            (false, true) => Arch::Mipsel64N32,
        }
    } else if cfg!(any(target_arch = "mips", target_arch = "mips32r6")) {
        if big { Arch::Mips } else { Arch::Mipsel }
    } else if cfg!(target_arch = "m68k") {
        Arch::M68k
    } else {
        panic!("seccomp filters cannot be made for this target architecture yet")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for arch in Arch::ALL {
            assert_eq!(Arch::from_oci(arch.oci_name()), Ok(arch));
        }
        assert!(Arch::from_oci("X86_64").is_err());
    }

    #[test]
    fn audit_values_are_the_kernels() {
        // linux/audit.h, as its comments and strace print them.
        for (arch, audit) in [
            (Arch::X86, 0x4000_0003),
            (Arch::X86_64, 0xc000_003e),
            (Arch::X32, 0xc000_003e),
            (Arch::Arm, 0x4000_0028),
            (Arch::Aarch64, 0xc000_00b7),
            (Arch::Mipsel64N32, 0xe000_0008),
            (Arch::Ppc64, 0x8000_0015),
            (Arch::Ppc64Le, 0xc000_0015),
            (Arch::S390X, 0x8000_0016),
            (Arch::Riscv64, 0xc000_00f3),
            (Arch::Loongarch64, 0xc000_0102),
            (Arch::Sheb, 0x2a),
        ] {
            assert_eq!(arch.audit(), audit, "{arch:?}");
        }
    }

    #[test]
    fn widths() {
        let wide: Vec<Arch> = Arch::ALL.into_iter().filter(|a| a.is_wide()).collect();
        assert_eq!(
            wide,
            [
                Arch::X86_64,
                Arch::Aarch64,
                Arch::Mips64,
                Arch::Mipsel64,
                Arch::Ppc64,
                Arch::Ppc64Le,
                Arch::S390X,
                Arch::Parisc64,
                Arch::Riscv64,
                Arch::Loongarch64
            ]
        );
    }
}
