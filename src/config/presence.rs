//! The option `channel.PATTERN.presence`: which channels have presence, and where none can.

use super::wrong::named;
use super::{Config, Engine};
use crate::error::{Error, Kind};
use crate::hub::user_of;

impl Config {
    /// Whether a channel has presence: as the closest pattern says. The channel of a user has none: who is on it is no
    /// question.
    pub(crate) fn presence_of(&self, channel: &str) -> bool {
        if user_of(channel).is_some() {
            return false;
        }
        let matching = self.channel_presence.iter().filter(|(pattern, _)| pattern.matches(channel));
        let closest = matching.max_by_key(|(pattern, _)| pattern.weight());
        closest.map_or(self.presence, |(_, has)| *has)
    }

    /// Refuses presence where it would not do what it says.
    pub(super) fn check_presence(&self) -> Result<(), Error> {
        for (pattern, _) in self.channel_presence.iter().filter(|(_, has)| *has) {
            let why = if pattern.is_of_users() {
                "names that begin with user: are those of users' own channels, which have no presence"
            } else if matches!(self.engine, Engine::Log(_)) {
                // A client would see the users of its own hub, and take them for all.
                "it is not allowed with this option engine: hubs share that log, and presence is of one hub. \
                 GET /v1/users asks all hubs"
            } else {
                continue;
            };
            let pattern = named(&pattern.to_string());
            return Err(Error::new(Kind::Config, format!("option channel.{pattern}.presence: {why}")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Builder, Config};

    const ALL: (&str, &str) = ("channel.*.presence", "true");

    fn built(options: &[(&str, &str)]) -> Result<Config, String> {
        let built = Builder::with(options).build().map_err(|error| error.to_string())?;
        Ok(built.config().clone())
    }

    #[test]
    fn the_closest_pattern_says_whether_a_channel_has_presence() {
        let options = [
            ("channel.room.*.presence", "true"),
            ("channel.room.quiet.*.presence", "false"),
            ("channel.room.quiet.not.presence", "true"),
        ];
        let config = built(&options).unwrap();
        for (channel, expected) in
            [("room.1", true), ("room.quiet.1", false), ("room.quiet.not", true), ("room", false), ("", false)]
        {
            assert_eq!(config.presence_of(channel), expected, "{channel}");
        }
        assert!(!Config::default().presence_of("room.1"));
        let all = built(&[ALL]).unwrap();
        assert_eq!(["a", "user", "user:ada"].map(|channel| all.presence_of(channel)), [true, true, false]);
    }

    #[test]
    fn only_patterns_have_it_and_the_error_says_so() {
        let mut builder = Builder::default();
        let error = builder.set("presence", "true").unwrap_err().to_string();
        assert_eq!(error, "unknown option \"presence\"; did you mean channel.PATTERN.presence?");
        let error = builder.set("channel.a.presence", "yes").unwrap_err().to_string();
        assert_eq!(error, "option channel.a.presence: \"yes\" is not allowed; allowed is true or false");
        builder.load_text("[channel.\"room.*\"]\npresence = true\n").unwrap();
        assert!(builder.config().presence_of("room.1") && !builder.config().presence_of("hall"));
        builder.set("channel.room.*.presence", "false").unwrap();
        assert!(!builder.config().presence_of("room.1"));
    }

    #[test]
    fn hubs_that_share_a_log_have_no_presence() {
        for engine in ["redis://h", "rediss://h", "redis+sentinel://h/name", "nats://h", "tls://h"] {
            let error = built(&[("engine", engine), ALL]).unwrap_err();
            for part in ["option channel.*.presence", "option engine", "of one hub", "GET /v1/users asks all hubs"] {
                assert!(error.contains(part), "{engine}: {error}");
            }
        }
        for engine in ["memory", "file:/x"] {
            assert!(built(&[("engine", engine), ALL]).is_ok(), "{engine}");
        }
    }

    #[cfg(all(feature = "redis", feature = "nats"))]
    #[test]
    fn a_reload_does_not_get_it_where_hubs_share_a_log_either() {
        for engine in ["redis://h", "nats://h"] {
            let running = built(&[("engine", engine), ("channel.*.presence", "false")]).unwrap();
            // The engine stays, whatever the new options say of it.
            for wanted in [built(&[ALL]).unwrap(), built(&[ALL, ("engine", "file:/x")]).unwrap()] {
                let error = running.reloaded(&wanted).unwrap_err().to_string();
                assert!(error.contains("channel.*.presence") && error.contains("option engine"), "{error}");
            }
            let (next, reloaded) = running.reloaded(&built(&[("presence_grace", "1m")]).unwrap()).unwrap();
            assert_eq!((next.presence_grace_ms, next.presence_of("a")), (60_000, false));
            assert_eq!(reloaded.changed, ["presence_grace", "channel.*"]);
        }
    }

    #[test]
    fn a_reload_changes_it_where_the_hub_is_alone() {
        let running = built(&[]).unwrap();
        let (next, reloaded) = running.reloaded(&built(&[ALL]).unwrap()).unwrap();
        assert!(next.presence_of("a") && reloaded.changed == ["channel.*"], "{reloaded:?}");
        let (next, _) = next.reloaded(&running).unwrap();
        assert!(!next.presence_of("a"));
    }

    #[test]
    fn the_channels_of_users_have_none() {
        for pattern in ["user:*", "user:ada", "user:a*", &*format!("user:{}", "u".repeat(250))] {
            let name = format!("channel.{pattern}.presence");
            let error = built(&[(&name, "true")]).unwrap_err();
            assert!(error.contains("users' own channels") && error.len() < 256, "{error}");
            let running = built(&[]).unwrap();
            let wanted = Builder::with(&[(&name, "true")]);
            assert!(running.reloaded(wanted.config()).is_err(), "{name}");
            assert!(built(&[(&name, "false")]).is_ok());
        }
        for pattern in ["*", "user*", "users:*", "u*"] {
            assert!(built(&[(&format!("channel.{pattern}.presence"), "true")]).is_ok(), "{pattern}");
        }
    }

    #[test]
    fn the_errors_fit_in_what_a_host_has_for_them() {
        let name = format!("channel.{}*.presence", "\u{1f4a9}".repeat(63));
        let error = built(&[("engine", "redis://h"), (&name, "true")]).unwrap_err();
        assert!(error.len() < 256 && error.contains("option engine"), "{error}");
    }
}
