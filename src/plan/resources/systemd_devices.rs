// SPDX-License-Identifier: Apache-2.0
//! Device rules as properties of a unit (systemd.resource-control(5), DeviceAllow=, DevicePolicy=).
//!
//! Called by [`super::plan`] and [`super::device_filter`]. The runtime's own filter decides; systemd's stands beside it, and a device can
//! be used where both agree. systemd knows only what is granted, never an exception from it, so its list may be wider than the rules and
//! is never narrower. It is there so that `systemctl show` tells the truth, and so that the list is written again by a `daemon-reload`.

use super::gvariant::Value;
use super::systemd::{Property, property};
use crate::plan::devices_filter::{self, Major, Rule, access};

/// The properties for these rules, in the order in which they must be set: the list before the policy that makes it hold.
pub fn of_rules(rules: &[Rule]) -> Vec<Property> {
    let table = devices_filter::table(rules);
    let everything = |majors: &[Major]| matches!(majors, [all] if all.minors.is_empty() && all.others == access::ALL);
    // An empty list forgets what was listed before.
    let forget = property("DeviceAllow", Value::Pairs(Vec::new()));
    if everything(&table.character) && everything(&table.block) {
        return vec![property("DevicePolicy", Value::Text("auto".to_string())), forget];
    }
    let mut granted = Vec::new();
    for (kind, majors) in [("char", &table.character), ("block", &table.block)] {
        for major in majors {
            match major.number {
                Some(number) => {
                    granted.push((format!("{kind}-{number}"), major.others));
                    granted.extend(major.minors.iter().map(|(minor, bits)| (format!("/dev/{kind}/{number}:{minor}"), *bits)));
                }
                // systemd has no word for one minor number of every major one: what that may do, all may do.
                None => {
                    let most = major.minors.iter().fold(major.others, |most, (_, bits)| most | bits);
                    granted.push((format!("{kind}-*"), most));
                }
            }
        }
    }
    granted.retain(|(_, bits)| *bits != 0);
    let list = granted.into_iter().map(|(device, bits)| (device, devices_filter::letters(bits))).collect();
    vec![forget, property("DeviceAllow", Value::Pairs(list)), property("DevicePolicy", Value::Text("strict".to_string()))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::types::NodeKind;
    use crate::spec::types::DeviceRule;

    fn list(properties: &[Property]) -> Vec<String> {
        let Some(Value::Pairs(pairs)) = properties.get(1).map(|property| &property.value) else { return Vec::new() };
        pairs.iter().map(|(device, access)| format!("{device} {access}")).collect()
    }

    fn rule(allow: bool, kind: Option<NodeKind>, major: Option<u32>, minor: Option<u32>, access: u8) -> Rule {
        Rule { allow, kind, major, minor, access }
    }

    #[test]
    fn the_usual_rules() {
        let deny = DeviceRule { allow: false, kind: String::new(), major: None, minor: None, access: "rwm".into() };
        let found = of_rules(&devices_filter::with_defaults(&[deny], "").unwrap());
        let names: Vec<&str> = found.iter().map(|property| property.name.as_str()).collect();
        assert_eq!(names, ["DeviceAllow", "DeviceAllow", "DevicePolicy"]);
        assert_eq!(found[0].value, Value::Pairs(vec![]));
        assert_eq!(found[2].value, Value::Text("strict".into()));
        let list = list(&found);
        for want in ["/dev/char/1:3 rwm", "char-136 rwm", "/dev/char/5:2 rwm", "/dev/char/10:200 rwm", "char-* m", "block-* m"] {
            assert!(list.iter().any(|entry| entry == want), "{want} of {list:?}");
        }
        assert_eq!(list.iter().filter(|entry| entry.starts_with("block")).count(), 1, "{list:?}");
    }

    #[test]
    fn everything_is_no_policy() {
        let found = of_rules(&[rule(true, None, None, None, access::ALL)]);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0], property("DevicePolicy", Value::Text("auto".into())));
    }

    #[test]
    fn never_narrower_than_the_rules() {
        let character = Some(NodeKind::Character);
        let rules = [
            rule(false, None, None, None, access::ALL),
            rule(true, character, Some(8), None, access::ALL),
            rule(false, character, Some(8), Some(1), access::WRITE),
            rule(true, character, None, Some(7), access::READ),
        ];
        let list = list(&of_rules(&rules));
        for want in ["char-8 rwm", "/dev/char/8:1 rm", "char-* r"] {
            assert!(list.iter().any(|entry| entry == want), "{want} of {list:?}");
        }
        assert_eq!(list.iter().filter(|entry| entry.starts_with("char-* ")).count(), 1, "{list:?}");
    }
}
