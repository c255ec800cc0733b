# SPDX-License-Identifier: Apache-2.0
# The bill of materials of the program, in the form of CycloneDX 1.5, from `cargo metadata`. Called by hack/release.
#
# In it are the crates that the binary is made of, and those that made it (build scripts, procedural macros), not those of the tests.

. as $metadata
| .resolve.root as $root
| (.packages | map({ key: .id, value: . }) | from_entries) as $packages
| (.resolve.nodes | map({
      key: .id,
      value: [.deps[] | select(any(.dep_kinds[]; .kind != "dev")).pkg]
  }) | from_entries) as $edges
| def reached($todo; $done):
    if ($todo | length) == 0 then $done
    else (($todo | map($edges[.][]) | unique) - $done) as $new | reached($new; ($done + $new) | unique) end;
  def purl: "pkg:cargo/\(.name)@\(.version)";
  reached([$root]; [$root])
| map(select(($packages[.] | "\(.name) \(.version)") as $name | any($built[0][]; . == $name))) as $all
| ($packages[$root]) as $own
| {
    bomFormat: "CycloneDX",
    specVersion: "1.5",
    version: 1,
    metadata: {
      timestamp: $time,
      component: {
        type: "application", "bom-ref": ($own | purl), name: $own.name, version: $own.version, description: $own.description,
        purl: ($own | purl), licenses: [{ expression: $own.license }],
        externalReferences: [{ type: "vcs", url: $own.repository }],
        properties: [{ name: "commit", value: $commit }]
      }
    },
    components: [
      $all[] | select(. != $root) | $packages[.] | {
        type: "library", "bom-ref": purl, name, version, purl: purl, scope: "required"
      }
      + (if .license then { licenses: [{ expression: (.license | gsub("/"; " OR ")) }] } else {} end)
      + (if .description then { description: (.description | gsub("\\s+"; " ") | ltrimstr(" ") | rtrimstr(" ")) } else {} end)
      + (if .repository then { externalReferences: [{ type: "vcs", url: .repository }] } else {} end)
      + ($checksums[0]["\(.name)@\(.version)"] as $sum | if $sum then { hashes: [{ alg: "SHA-256", content: $sum }] } else {} end)
    ] | sort_by(.purl),
    dependencies: [
      $all[] | { ref: ($packages[.] | purl), dependsOn: [$edges[.][] | select(. as $one | $all | index([$one])) | $packages[.] | purl] | unique }
    ] | sort_by(.ref)
  }
