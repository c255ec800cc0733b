// SPDX-License-Identifier: Apache-2.0
//! Black-box tests that drive a runtime binary.
