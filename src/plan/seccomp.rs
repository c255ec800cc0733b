// SPDX-License-Identifier: Apache-2.0
//! Seccomp profiles compiled to BPF.
