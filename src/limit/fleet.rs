//! Limits that several gateways count together, in Redis.
//!
//! Owns the script that decides, and what a key is called there. The arithmetic is `gcra`'s: the script only adds and compares ticks, by the
//! clock of Redis, so that gateways need no common one, and what is left is worked out here from its answer. Refuses to know what is done when
//! there is none.

use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};

use aws_lc_rs::digest::{Context, SHA256};

use super::gcra::{Decision, Rate};
use super::key::Key;
use super::limiter::Limiter;
use crate::redis::{Redis, Script};

static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("gcra.lua")));

/// Bytes of a digest that name a key: nobody finds two that share them.
const NAMED_BY: usize = 16;

/// Where limits are counted together.
#[derive(Debug, Clone)]
pub struct Fleet(Arc<Redis>);

/// One question about one request: whether it may pass several limits.
#[derive(Debug, Default)]
pub struct Question {
    rates: Vec<Rate>,
    keys: Vec<String>,
    arguments: Vec<u64>,
}

impl Fleet {
    /// Counts there.
    pub fn new(redis: Arc<Redis>) -> Self {
        Self(redis)
    }

    /// Asks about a limit as well.
    pub fn add(&self, question: &mut Question, limiter: &Limiter, key: Key<'_>) {
        let rate = limiter.rate();
        let [cost, capacity, ticks, per_secs] = rate.parts();
        let trial = u64::from(limiter.settings().dry_run);
        question.keys.push(name(self.0.prefix(), limiter, key));
        question.arguments.extend([cost, capacity, ticks, per_secs, trial]);
        question.rates.push(rate);
    }

    /// What becomes of the request at each limit, in the order they were added: if one refuses it that is not on trial, none of them counts it.
    /// `None` if Redis does not say in time.
    pub async fn ask(&self, question: Question) -> Option<Vec<Decision>> {
        let Question { rates, keys, arguments } = question;
        let answer = self.0.run(&SCRIPT, &keys, &arguments).await.ok()?;
        let pairs = answer.chunks_exact(2).zip(&rates);
        let decisions: Vec<_> =
            pairs.map(|(pair, rate)| rate.decided(pair[0] == 1, u64::try_from(pair[1]).unwrap_or(0))).collect();
        (decisions.len() == rates.len()).then_some(decisions)
    }
}

/// What a key is called in Redis. What a client says goes into it as a digest alone, and so can't be long, and can't be a name of something else.
/// Limits that count otherwise have other names: during a change of the configuration two gateways may differ.
fn name(prefix: &str, limiter: &Limiter, key: Key<'_>) -> String {
    let (settings, mut digest) = (limiter.settings(), Context::new(&SHA256));
    match key {
        Key::All => digest.update(b"a"),
        Key::Client(address) => {
            digest.update(b"c");
            digest.update(address.to_string().as_bytes());
        }
        Key::Header(value) => {
            digest.update(b"h");
            digest.update(value);
        }
        Key::Claim { issuer, value } => {
            digest.update(b"t");
            digest.update(&(issuer.len() as u64).to_be_bytes());
            digest.update(issuer.as_bytes());
            digest.update(value.as_bytes());
        }
    }
    let quota = settings.quota;
    let mut name = String::with_capacity(prefix.len() + settings.name.len() + 80);
    write!(name, "{prefix}rate:{}:{}/{}/{}:", settings.name, quota.requests, quota.per_secs, quota.burst)
        .and_then(|()| digest.finish().as_ref()[..NAMED_BY].iter().try_for_each(|byte| write!(name, "{byte:02x}")))
        .expect("a String takes every write");
    name
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::cell::{Cell, RefCell};
    use std::net::Ipv4Addr;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use proptest::prelude::*;
    use proptest::test_runner::TestRunner;

    use super::super::gcra::Quota;
    use super::super::settings::{CountedBy, LimitSettings};
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// Runs `test` with a real Redis, which `tests/run` installs.
    fn with_redis(test: impl FnOnce(&mut ::redis::Connection)) {
        let home = tempfile::tempdir().unwrap();
        let socket = home.path().join("redis.sock");
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--save", "", "--unixsocket"]).arg(&socket).arg("--dir").arg(home.path());
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("redis-server is here");
        let client = ::redis::Client::open(format!("redis+unix://{}", socket.display())).unwrap();
        let begun = Instant::now();
        let connection = std::iter::repeat_with(|| client.get_connection().ok());
        let mut connection = connection.take_while(|_| begun.elapsed() < PATIENCE).flatten();
        test(&mut connection.next().expect("a Redis that listens"));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// What the script does at a moment of the test's choice; nothing is forgotten.
    fn at_a_moment() -> ::redis::Script {
        let lua = include_str!("gcra.lua").replace("redis.call('TIME')", "{ ARGV[#ARGV - 1], ARGV[#ARGV] }");
        ::redis::Script::new(&lua.replace(", 'PX', string.format('%.0f', millis))", ")"))
    }

    #[test]
    fn the_script_decides_as_this_gateway_would() {
        let number = || prop_oneof![1_u32..=100, 1..=Quota::MOST_REQUESTS];
        let per_secs = prop_oneof![1_u32..=60, 1..=Quota::MOST_SECS];
        let story =
            (number(), per_secs, number(), 1_500_000_000_u64..4_000_000_000, prop::collection::vec(0.0..3.0, 1..60));
        with_redis(|connection| {
            let (script, stories, connection) = (at_a_moment(), Cell::new(0), RefCell::new(connection));
            let told = TestRunner::default().run(&story, |(requests, per_secs, burst, begin, steps)| {
                stories.set(stories.get() + 1);
                let rate = Rate::new(Quota { requests, per_secs, burst });
                let [cost, capacity, ticks, per] = rate.parts();
                let (mut micros, mut free_at) = (u128::from(begin) * 1_000_000, 0);
                for step in steps {
                    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                    // some time, about that of one request
                    let step = (step * 1e6 * f64::from(per_secs) / f64::from(requests)) as u128;
                    micros += step;
                    let now = u64::try_from(micros * u128::from(ticks) / (u128::from(per) * 1_000_000)).unwrap();
                    let used = u64::saturating_sub(free_at, now);
                    let (after, _) = rate.decide(used);
                    let mut invocation = script.key(format!("story:{}", stories.get()));
                    invocation.arg(&[cost, capacity, ticks, per, 0]);
                    let (secs, rest) = (micros / 1_000_000, micros % 1_000_000);
                    invocation.arg(u64::try_from(secs).unwrap()).arg(u64::try_from(rest).unwrap());
                    let (passes, said): (u64, u64) = invocation.invoke(&mut **connection.borrow_mut()).unwrap();
                    // A moment is rounded to a tick, and the script's numbers to 53 bits: they differ by one at most.
                    prop_assert!(
                        said.abs_diff(after.unwrap_or(used)) <= 1 || used + cost >= capacity,
                        "{said} {after:?} {used}"
                    );
                    if used + cost + 1 < capacity || used + cost > capacity + 1 {
                        prop_assert_eq!(passes == 1, after.is_some());
                    }
                    free_at = if passes == 1 { now + said } else { free_at };
                }
                Ok(())
            });
            told.unwrap();
        });
    }

    #[test]
    fn what_one_key_refuses_no_key_counts_unless_it_is_on_trial() {
        with_redis(|connection| {
            let script = at_a_moment();
            let mut ask = |keys: &[&str], trial: [u64; 2]| -> Vec<i64> {
                let mut invocation = script.prepare_invoke();
                invocation.key(keys).arg(&[1, 5, 5, 60, trial[0], 1, 2, 2, 60, trial[1], 1_800_000_000, 0]);
                invocation.invoke(connection).unwrap()
            };
            assert_eq!(ask(&["wide", "narrow"], [0, 0]), [1, 1, 1, 1]);
            assert_eq!(ask(&["wide", "narrow"], [0, 0]), [1, 2, 1, 2]);
            assert_eq!(ask(&["wide", "narrow"], [0, 0]), [1, 3, 0, 2]);
            assert_eq!(ask(&["wide", "narrow"], [0, 0]), [1, 3, 0, 2], "nobody has counted it");
            assert_eq!(ask(&["wide", "narrow"], [0, 1]), [1, 3, 0, 2]);
            assert_eq!(ask(&["wide", "narrow"], [0, 1]), [1, 4, 0, 2], "who is on trial holds nobody back");
        });
    }

    fn limiter(requests: u32) -> Limiter {
        Limiter::new(LimitSettings {
            name: "login".into(),
            by: CountedBy::Route,
            quota: Quota { requests, per_secs: 60, burst: 5 },
            entries: 1000,
            dry_run: false,
            headers: true,
            shared: true,
        })
    }

    #[test]
    fn what_a_client_says_is_in_no_name() {
        let long = vec![b'x'; 100_000];
        for value in [&b"a\r\nFLUSHALL\r\n"[..], b"", b"rate:login:*", b"\xff\x00", &long] {
            let name = name("p:", &limiter(5), Key::Header(value));
            let digest = name.strip_prefix("p:rate:login:5/60/5:").expect("the name of the limit");
            assert!(digest.len() == 32 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}");
        }
    }

    #[test]
    fn names_differ_where_counts_do_and_are_the_same_at_every_gateway() {
        let address = "192.0.2.1";
        let keys = [
            Key::All,
            Key::Client(Ipv4Addr::new(192, 0, 2, 1).into()),
            Key::Header(address.as_bytes()),
            Key::Claim { issuer: "", value: address },
            Key::Claim { issuer: "a", value: "bc" },
            Key::Claim { issuer: "ab", value: "c" },
        ];
        let names: std::collections::HashSet<_> = keys.iter().map(|key| name("p:", &limiter(5), *key)).collect();
        assert_eq!(names.len(), keys.len());
        assert_eq!(name("p:", &limiter(5), Key::All), "p:rate:login:5/60/5:ca978112ca1bbdcafac231b39a23dc4d");
        assert_ne!(name("p:", &limiter(5), Key::All), name("p:", &limiter(6), Key::All));
    }
}
