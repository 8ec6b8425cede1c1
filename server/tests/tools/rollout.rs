use super::{folder, path, run};

fn rules(lines: &str) -> String {
    format!(
        "domain: d\ndescriptors:\n  - key: user\n{lines}    rate_limit: {{ unit: day, requests_per_unit: 0 }}\n"
    )
}

/// A log with one request of each of 1,000 users.
fn log() -> String {
    let line = |user| {
        format!("{{\"time\": 1700000000, \"domain\": \"d\", \"descriptors\": [[[\"user\", \"u{user}\"]]]}}\n")
    };
    (0..1_000).map(line).collect()
}

/// How many of them are refused, and how many a limit in shadow would refuse.
fn refused(lines: &str) -> (u64, u64) {
    let folder = folder(&[("rules/a.yaml", &rules(lines)), ("log", &log())]);
    let (code, out, err) =
        run(&["replay", &path(&folder, "log"), "--rules", &path(&folder, "rules"), "--json"]);
    assert_eq!(code, 0, "{err}");
    let total = serde_json::from_str::<serde_json::Value>(&out).unwrap()["total"].clone();
    (total["refused_before"].as_u64().unwrap(), total["would_refuse"].as_u64().unwrap())
}

#[test]
fn a_share_of_the_keys_is_enforced_and_the_rest_is_counted() {
    let (enforced, shadowed) = refused("    rollout: 20%\n");
    assert!((150..250).contains(&enforced), "{enforced}");
    assert_eq!(enforced + shadowed, 1_000);
}

#[test]
fn outside_can_be_skipped() {
    let (enforced, shadowed) = refused("    rollout: 20%\n    rollout_outside: skip\n");
    assert!((150..250).contains(&enforced), "{enforced}");
    assert_eq!(shadowed, 0);
}

#[test]
fn both_ends() {
    assert_eq!(refused("    rollout: 0%\n"), (0, 1_000));
    assert_eq!(refused("    rollout: 100%\n"), (1_000, 0));
}

#[test]
fn what_makes_no_sense_is_an_error() {
    for (lines, said) in [
        ("    rollout: 10\n", "rollout '10' is not a percentage from 0% to 100%"),
        ("    rollout: 101%\n", "rollout '101%' is not a percentage"),
        ("    rollout_outside: skip\n", "rollout_outside needs a rollout"),
        ("    rollout: 1%\n    rollout_outside: maybe\n", "rollout_outside 'maybe' is none of shadow, skip"),
    ] {
        let folder = folder(&[("a.yaml", &rules(lines))]);
        let (code, _, err) = run(&["check", &path(&folder, "")]);
        assert_eq!(code, 1, "{lines}");
        assert!(err.contains(said), "{err}");
    }
    let alone = "domain: d\ndescriptors:\n  - key: user\n    rollout: 1%\n";
    let (_, _, err) = run(&["check", &path(&folder(&[("a.yaml", alone)]), "")]);
    assert!(err.contains("rollout needs a rate_limit beside it"), "{err}");
}
