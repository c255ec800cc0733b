// SPDX-License-Identifier: Apache-2.0
//! Tests only: compares berth's programs with libseccomp's, by running both, and with the rules
//! themselves. The installed libseccomp (Debian 12 has 2.5.4) is given each profile as runc gives it;
//! then all are asked about the same system calls and must answer alike.
//!
//! Left out on purpose, because libseccomp 2.5.4 and 2.6.1 are wrong there (each was reproduced with
//! its API; the answers wanted are those of its own documentation):
//! - numbers around -100 and -10000: for a system call that an architecture lacks, it adds a rule for
//!   its pseudo number; no kernel has calls with such numbers;
//! - if such a call is the first one in its order, the program for x86_64 with x32 forgets to load
//!   the number, and all calls get the default action;
//! - an argument's high word compared after its low word, without being loaded again: `clone` allowed
//!   if `a0 >= 7 << 32` and if `a0 < 1` is allowed with 7, too. The random tests therefore compare with
//!   the "pseudo filter code";
//! - conditions that continue rules on the same 64-bit comparison come to belong to all of them:
//!   `accept4` allowed if `a2 > 5 && a3 == 2` and if `a2 > 126 && a3 == 9` is allowed with a2 6, a3 9;
//! - on 32-bit architectures, of `a1 != 1` and `a0 == 1 && a1 == 1` the second is lost.

pub(super) mod cases;
mod pfc;
pub(super) mod profile;
mod scmp;
mod tests;
