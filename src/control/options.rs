//! `GET /v1/config`: the options in use. No secret is among them.

use super::parameters::Parameters;
use super::routes::{json, Answer};
use crate::api::Api;
use crate::config::showing::{Shown, ShownPattern};
use crate::http::refusal::Refusal;
use serde_json::{Map, Value};

pub(super) fn config(api: &Api, query: &str) -> Result<Answer, Refusal> {
    Parameters::none(query)?;
    let config = api.config();
    let options: Vec<_> = config.shown().iter().map(show).collect();
    let channels: Vec<_> = config.shown_patterns().into_iter().map(show_pattern).collect();
    Ok(json(format!("{{\"options\":[{}],\"channels\":[{}]}}\n", options.join(","), channels.join(","))))
}

fn show(Shown { spec, value, changed, means }: &Shown) -> String {
    let text = |text: Option<&str>| text.map_or(Value::Null, Value::from);
    format!(
        "{{\"name\":\"{}\",\"value\":{},\"default\":{},\"changed\":{changed},\"live\":{},\"secret\":{},\"means\":{}}}",
        spec.name,
        text(value.as_deref()),
        Value::from(spec.default),
        spec.is_live(),
        value.is_none(),
        text(means.as_deref()),
    )
}

fn show_pattern(ShownPattern { pattern, options }: ShownPattern) -> String {
    let options = options.into_iter().map(|(name, value)| (name.to_owned(), value.into()));
    Value::from(Map::from_iter(std::iter::once(("pattern".to_owned(), pattern.into())).chain(options))).to_string()
}
