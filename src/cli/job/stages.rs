//! Parses the stages of a new job.

use serde_json::Value;

use crate::cli::document::parse;
use crate::cli::failure::Failed;
use crate::cli::json;
use crate::proto::StageSpec;

/// Reads stages: a JSON array of specs and names, or names separated by commas.
///
/// # Errors
/// What is wrong, with the path to it.
pub fn stages(text: &str) -> Result<Vec<StageSpec>, Failed> {
    let text = text.trim();
    if !text.starts_with(['[', '{', '"']) {
        return text.split(',').enumerate().map(|(index, name)| named(index, name.trim())).collect();
    }
    let Value::Array(stages) = parse("--stages", text)? else {
        return Err(Failed::usage("--stages: must be a JSON array of stages, or names with commas between them"));
    };
    stages.into_iter().enumerate().map(|(index, stage)| one(index, stage)).collect()
}

fn one(index: usize, stage: Value) -> Result<StageSpec, Failed> {
    match stage {
        Value::String(name) => named(index, &name),
        Value::Object(_) => {
            let stage: StageSpec = json::read(&format!("stages[{index}]"), stage)
                .map_err(|why| Failed::usage(format!("--stages: {why}")))?;
            if stage.name.is_empty() {
                return Err(Failed::usage(format!("--stages: stages[{index}].name: is missing")));
            }
            Ok(stage)
        }
        _ => Err(Failed::usage(format!("--stages: stages[{index}]: must be a name or an object"))),
    }
}

fn named(index: usize, name: &str) -> Result<StageSpec, Failed> {
    if name.is_empty() {
        return Err(Failed::usage(format!("--stages: stages[{index}]: the name is empty")));
    }
    Ok(StageSpec { name: name.to_owned(), ..Default::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        stages(text).expect("stages").into_iter().map(|stage| stage.name).collect()
    }

    fn wrong(text: &str) -> String {
        stages(text).expect_err("a mistake").to_string()
    }

    #[test]
    fn stages_are_names_or_specs_or_both() {
        assert_eq!(names("voice, image"), ["voice", "image"]);
        assert_eq!(names(r#"["voice", {"name": "image"}]"#), ["voice", "image"]);
        let stages = stages(r#"[{"name":"a","queue":"gpu","dependsOn":["b"],"retry_policy":{"maxAttempts":5}},"b"]"#);
        let stage = stages.expect("stages").remove(0);
        assert_eq!((&*stage.queue, &*stage.depends_on), ("gpu", &["b".to_owned()][..]));
        assert_eq!(stage.retry_policy.map(|policy| policy.max_attempts), Some(5));
    }

    #[test]
    fn mistakes_in_stages_are_named_with_their_place() {
        assert!(
            wrong(r#"[{"name":"a"}, {"name":"b","depends_on":"a"}]"#).starts_with("--stages: stages[1].depends_on: ")
        );
        assert!(wrong(r#"[{"name":"a","weigth":2}]"#).contains("stages[0]"));
        assert_eq!(wrong(r#"[{"queue":"a"}]"#), "--stages: stages[0].name: is missing");
        assert_eq!(wrong("[5]"), "--stages: stages[0]: must be a name or an object");
        assert_eq!(wrong("a,,b"), "--stages: stages[1]: the name is empty");
        assert!(wrong(r#"["a""#).starts_with("--stages: is not JSON: "));
        assert!(wrong(r#"{"name":"a"}"#).starts_with("--stages: must be a JSON array"));
    }
}
