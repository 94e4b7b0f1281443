//! What is said about the difference of policies.

use nova_sched::sim::experiment::stats::Interval;
use nova_sched::sim::experiment::{Bench, Compared, Comparison, Experiment, Setting};

use super::{run, small};

fn compare(text: &str) -> (Comparison, String) {
    let folder = tempfile::tempdir().unwrap();
    small(folder.path());
    let file = folder.path().join("x.toml");
    std::fs::write(&file, text).unwrap();
    let bench = Bench::new(Experiment::read(&file).unwrap(), folder.path().join("out"));
    run(&bench);
    let published = bench.publish().unwrap();
    assert_eq!(published.missing, [] as [String; 0]);
    let page = std::fs::read_to_string(bench.folder().join("report.html")).unwrap();
    (published.comparison, page)
}

fn metric<'s>(setting: &'s Setting, name: &str) -> &'s Compared {
    setting.metrics.iter().find(|compared| compared.metric == name).unwrap()
}

#[test]
fn policies_are_compared_with_the_baseline_in_pairs() {
    let folder = tempfile::tempdir().unwrap();
    let outcomes = run(&Bench::new(small(folder.path()), folder.path().join("out")));
    let comparison = Comparison::new(&outcomes, "best-fit");
    assert_eq!(comparison.settings.len(), 4, "two traces, two values");
    let setting = &comparison.settings[3];
    assert_eq!(setting.title(), "told on c, scenario.waiting.patience_s = 600");
    assert!(setting.seeds_differ);
    let in_use = metric(setting, "hosts_in_use");
    let hosts = |policy: &str| -> Vec<f64> {
        let same = outcomes.iter().filter(|outcome| {
            let run = &outcome.run;
            run.policy.name == policy
                && run.trace.name == "told"
                && run.swept["scenario.waiting.patience_s"] == "600"
        });
        same.map(|outcome| outcome.report.mean_hosts_in_use).collect()
    };
    let (worst, best) = (hosts("worst-fit"), hosts("best-fit"));
    let mean = |values: &[f64]| values.iter().sum::<f64>() / 3.0;
    let [of_worst, of_best] = &in_use.policies[..] else { panic!("{in_use:?}") };
    assert_eq!((of_worst.policy.as_str(), of_worst.seeds), ("worst-fit", 3));
    assert_eq!((of_worst.mean, of_best.mean), (mean(&worst), mean(&best)));
    assert_eq!(of_best.difference, None);
    let Interval { low, high } = of_best.interval.unwrap();
    assert!(low < of_best.mean && of_best.mean < high);
    let difference = of_worst.difference.as_ref().unwrap();
    let differences: Vec<f64> = worst.iter().zip(&best).map(|(a, b)| a - b).collect();
    assert!(differences.iter().all(|difference| *difference > 0.0), "{differences:?}");
    assert_eq!((difference.pairs, difference.mean), (3, mean(&differences)));
    // All three on one side: two of eight flips. One policy is compared, so nothing to correct.
    assert_eq!((difference.p, difference.p_corrected), (Some(0.25), Some(0.25)));
    // What came is the same for all, so there is nothing to test.
    let came = &metric(setting, "requests").policies[0];
    assert_eq!(came.difference.as_ref().map(|diff| (diff.mean, diff.p)), Some((0.0, None)));
}

#[test]
fn seeds_that_do_not_differ_are_no_observations() {
    let whole = super::SMALL.replace(", window_s = 3600", "");
    let (comparison, page) = compare(&whole);
    for setting in &comparison.settings {
        let drawn = setting.trace == "drawn";
        assert_eq!(setting.seeds_differ, drawn);
        let worst = &metric(setting, "hosts_in_use").policies[0];
        let difference = worst.difference.as_ref().unwrap();
        assert!(difference.mean > 0.0);
        assert_eq!(worst.interval.is_some(), drawn);
        assert_eq!(difference.interval.is_some(), drawn);
        assert_eq!(difference.p.is_some(), drawn);
    }
    assert!(comparison.text().contains("Every seed gave the same"));
    assert!(page.contains("Every seed gave the same"));
}

#[test]
fn one_seed_says_nothing_about_chance() {
    let (comparison, page) = compare(&super::SMALL.replace("[1, 2, 3]", "[1]"));
    for estimate in comparison.settings.iter().flat_map(|s| &s.metrics).flat_map(|m| &m.policies) {
        let difference = estimate.difference.as_ref();
        let said = difference.and_then(|difference| difference.interval.map(|_| difference.p));
        assert_eq!((estimate.interval, said), (None, None));
    }
    assert!(page.contains("One seed: nothing can be said about chance."));
    assert!(!page.contains("no p value is below"));
}

#[test]
fn few_seeds_cannot_show_much_and_that_is_said() {
    let (few, _) = compare(super::SMALL);
    let said = "With 3 seeds and 1 comparisons no p value is below 0.2500";
    assert!(few.text().contains(said), "{}", few.text());
    let (many, _) = compare(&super::SMALL.replace("[1, 2, 3]", "[1, 2, 3, 4, 5, 6]"));
    assert!(!many.text().contains("no p value is below"));
}

#[test]
fn a_policy_alone_is_told_without_comparison() {
    let alone = super::SMALL.replace("{ name = \"worst-fit\" }, ", "");
    let (comparison, _) = compare(&alone);
    let text = comparison.text();
    assert!(text.contains("hosts in use, mean") && text.contains("best-fit"), "{text}");
}

#[test]
fn names_from_outside_stay_text() {
    let hostile = r#"</td><script src=\"x\">&'|"#;
    let text = super::SMALL
        .replace("name = \"small\"", &format!("name = \"{hostile}\""))
        .replace("\"worst-fit\"", &format!("\"{hostile}\", of = \"worst-fit\""))
        .replace("name = \"c\"", &format!("name = \"{hostile}\""))
        .replace("name = \"drawn\"", &format!("name = \"{hostile}\""));
    let (comparison, page) = compare(&text);
    assert!(!page.contains("<script") && !page.contains("</td><script"));
    assert!(page.contains("&lt;/td&gt;&lt;script src=&quot;x&quot;&gt;&amp;&#39;|"));
    for row in comparison.markdown().lines().filter(|line| line.starts_with('|')) {
        assert_eq!(row.replace("\\|", "").matches('|').count(), 8, "{row}");
    }
    let csv = comparison.csv();
    assert!(csv.contains(r#""</td><script src=""x"">&'|""#), "{csv}");
}

#[test]
fn a_page_needs_nothing_else() {
    let (_, page) = compare(super::SMALL);
    let elsewhere = page.replace("http://www.w3.org/2000/svg", "");
    for from in ["http:", "https:", "src=", "href=", "@import", "url(", "<script"] {
        assert!(!elsewhere.contains(from), "{from}");
    }
    for told in ["over scenario.waiting.patience_s", "hosts in use, seed 1", "&quot;sha256&quot;"] {
        assert!(page.contains(told), "{told}");
    }
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    assert!(!page.contains("NaN"));
}
