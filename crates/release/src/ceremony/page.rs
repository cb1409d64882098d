//! The record on paper: one HTML file without scripts, fonts or pictures from elsewhere, made of the record alone.

use std::fmt::Write;

use serde_json::Value;

use super::record::Entry;
use super::run::{present, utc};
use super::script::{Act, Mode};
use super::verify::{Verified, act_of};
use crate::hex;

/// The page of a record that was verified.
pub fn page(verified: &Verified) -> String {
    let mut page = String::new();
    // Writing to a string does not fail.
    let _ = write_page(&mut page, verified);
    page
}

const STYLE: &str = "\
@page { size: A4; margin: 18mm 16mm 18mm 20mm; }
* { box-sizing: border-box; }
body { font: 10pt/1.4 Georgia, 'Times New Roman', serif; color: #000; background: #fff; max-width: 176mm; margin: 8mm auto; }
h1 { font-size: 19pt; line-height: 1.15; margin: 0 0 2mm; }
h2 { font-size: 12.5pt; margin: 8mm 0 2mm; border-bottom: .5pt solid #000; padding-bottom: 1mm; break-after: avoid; }
p { margin: 0 0 2mm; }
.purpose { font-style: italic; font-size: 11pt; margin-bottom: 5mm; }
.mode { display: inline-block; border: 1pt solid #000; padding: .6mm 2.4mm; letter-spacing: .08em; font-size: 8.5pt; margin-bottom: 3mm; }
code { font: 8.4pt/1.35 'DejaVu Sans Mono', Menlo, Consolas, monospace; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: 1mm 2mm 1mm 0; border-bottom: .25pt solid #999; }
th { font-weight: bold; font-size: 9pt; }
tr { break-inside: avoid; }
.step { break-inside: avoid; margin: 0 0 4.5mm; padding-left: 9mm; position: relative; }
.step > .number { position: absolute; left: 0; top: 0; font-weight: bold; }
.step h3 { font-size: 10.5pt; margin: 0 0 .6mm; }
.when { font-size: 8.5pt; color: #333; }
dl { display: grid; grid-template-columns: 36mm 1fr; margin: 1mm 0 0; }
dt { color: #333; font-size: 9pt; }
dd { margin: 0 0 .5mm; overflow-wrap: anywhere; }
.remark { border-left: 2pt solid #000; padding-left: 3mm; margin: 1mm 0; }
.sign td { height: 15mm; vertical-align: bottom; border-bottom: .5pt solid #000; }
.sign th { border-bottom: none; }
.sign td.line { width: 52mm; }
.digest { border: .5pt solid #000; padding: 2.5mm 3mm; margin: 2mm 0 3mm; break-inside: avoid; }
footer { margin-top: 8mm; font-size: 8.5pt; color: #333; }
";

fn write_page(page: &mut String, verified: &Verified) -> std::fmt::Result {
    let script = &verified.script;
    let title = escape(&script.title);
    write!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\n\
         <style>\n{STYLE}</style></head><body>\n<h1>{title}</h1>\n"
    )?;
    let mode = match script.mode {
        Mode::Rehearsal => "REHEARSAL",
        Mode::Production => "PRODUCTION",
    };
    writeln!(
        page,
        "<p class=\"purpose\">{}</p>\n<p class=\"mode\">{mode}</p>",
        escape(&script.purpose)
    )?;
    digest(page, verified)?;
    people(page, verified)?;
    steps(page, verified)?;
    files(page, verified)?;
    signatures(page, verified)?;
    write!(
        page,
        "<footer>Made from the machine-readable record, which alone is authoritative: <code>ampoule ceremony verify \
         RECORD</code> checks it and prints the transcript's digest; it must be the one above.</footer>\n</body></html>\n"
    )
}

fn digest(page: &mut String, verified: &Verified) -> std::fmt::Result {
    let entries = &verified.record.entries;
    let times = entries
        .first()
        .zip(entries.last())
        .map(|(first, last)| (utc(first.time()), utc(last.time())));
    let (begun, last) = times.unwrap_or_default();
    let transcript = match verified.transcript.as_str() {
        "" => "<b>not finished</b>".to_owned(),
        digest => format!("<code>{}</code>", in_groups(digest)),
    };
    let open = entries.first().map(|open| open.get("tool").clone()).unwrap_or_default();
    write!(page, "<div class=\"digest\"><dl>")?;
    pair(page, "Transcript", &transcript)?;
    pair(page, "Begun, last entry", &format!("{begun}; {last}"))?;
    pair(
        page,
        "Script, SHA-256",
        &format!("<code>{}</code>", in_groups(&hex::text(&verified.script.digest()))),
    )?;
    let tool = open["sha256"].as_str().unwrap_or_default();
    let version = open["version"].as_str().unwrap_or_default();
    pair(
        page,
        &format!("ampoule {version}, SHA-256"),
        &format!("<code>{}</code>", in_groups(tool)),
    )?;
    writeln!(page, "</dl></div>")
}

fn people(page: &mut String, verified: &Verified) -> std::fmt::Result {
    let here: Vec<&str> = present(&verified.script, &verified.record)
        .iter()
        .map(|who| who.id.as_str())
        .collect();
    writeln!(
        page,
        "<h2>People</h2><table><tr><th>Name</th><th>Part</th><th>Present</th></tr>"
    )?;
    for who in &verified.script.participants {
        let was = if here.contains(&who.id.as_str()) { "yes" } else { "no" };
        writeln!(
            page,
            "<tr><td>{}</td><td>{}</td><td>{was}</td></tr>",
            escape(&who.name),
            who.part.name()
        )?;
    }
    writeln!(page, "</table>")
}

fn steps(page: &mut String, verified: &Verified) -> std::fmt::Result {
    writeln!(page, "<h2>What happened</h2>")?;
    for (at, step) in verified.script.steps.iter().enumerate() {
        let mine: Vec<&Entry> = verified
            .record
            .entries
            .iter()
            .filter(|entry| entry.text("step") == step.id)
            .collect();
        writeln!(
            page,
            "<div class=\"step\"><div class=\"number\">{}</div><h3>{}</h3>",
            at + 1,
            escape(&step.title)
        )?;
        let begun: Vec<String> = mine
            .iter()
            .filter(|entry| entry.kind() == "begin")
            .map(|entry| utc(entry.time()))
            .collect();
        let done = mine.iter().find(|entry| entry.kind() == "done");
        let until = done.map_or("not done".to_owned(), |done| format!("done {}", utc(done.time())));
        writeln!(page, "<div class=\"when\">begun {}; {until}</div>", begun.join(" and "))?;
        for remark in &mine {
            match remark.kind() {
                kind @ ("note" | "incident") => {
                    writeln!(
                        page,
                        "<p class=\"remark\"><b>{kind}</b>: {}</p>",
                        escape(remark.text("text"))
                    )?;
                }
                "stopped" => writeln!(
                    page,
                    "<p class=\"remark\"><b>stopped</b> {}: {} ({})</p>",
                    utc(remark.time()),
                    escape(remark.text("what")),
                    remark.get("number")
                )?,
                _ => {}
            }
        }
        if let Some(done) = done {
            result(page, verified, &step.id, done.get("result"))?;
        }
        writeln!(page, "</div>")?;
    }
    Ok(())
}

/// What a step came to, without what is for machines only.
fn result(page: &mut String, verified: &Verified, step: &str, result: &Value) -> std::fmt::Result {
    let Value::Object(members) = result else {
        return Ok(());
    };
    let is_for_machines = |name: &str| {
        matches!(
            name,
            "root" | "public_key_pem" | "statement" | "signature" | "facts" | "mechanisms"
        )
    };
    write!(page, "<dl>")?;
    // What is false did not happen: "made before an interruption: no" would only puzzle.
    let told = members
        .iter()
        .filter(|(name, value)| !is_for_machines(name) && **value != Value::Bool(false));
    for (name, value) in told {
        pair(page, &label(name), &text(verified, name, value))?;
    }
    if let Some(Act::Drill { .. }) = act_of(&verified.script, step) {
        let used = &result["statement"]["shares_used"];
        pair(page, "shares used", &text(verified, "shares", used))?;
        pair(
            page,
            "result",
            "the key came back, signed a fresh nonce, and was forgotten",
        )?;
    }
    writeln!(page, "</dl>")
}

fn text(verified: &Verified, name: &str, value: &Value) -> String {
    match value {
        Value::String(text) if is_digest(text) => format!("<code>{}</code>", in_groups(text)),
        Value::String(text) => match verified.script.participant(text) {
            Some(who) if name == "holder" => escape(&who.name),
            _ => escape(text),
        },
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.into(),
        Value::Array(items) => {
            let named = |item: &Value| {
                let who = item.as_str().and_then(|id| verified.script.participant(id));
                who.map_or_else(|| text(verified, "", item), |who| escape(&who.name))
            };
            let separator = if items.iter().any(|item| item.as_str().is_some_and(is_digest)) {
                "<br>"
            } else {
                ", "
            };
            items.iter().map(named).collect::<Vec<_>>().join(separator)
        }
        Value::Object(members) => {
            let lines = members
                .iter()
                .map(|(name, value)| match (&value["threshold"], &value["keys"]) {
                    (Value::Number(threshold), keys @ Value::Array(_)) => {
                        format!("{}, {threshold} of<br>{}", escape(name), text(verified, name, keys))
                    }
                    _ => format!("{}: {}", escape(&label(name)), text(verified, name, value)),
                });
            lines.collect::<Vec<_>>().join("<br>")
        }
        plain => escape(&plain.to_string()),
    }
}

fn files(page: &mut String, verified: &Verified) -> std::fmt::Result {
    let outputs = super::run::outputs(&verified.record);
    if outputs.is_empty() {
        return Ok(());
    }
    writeln!(page, "<h2>Files</h2><table><tr><th>File</th><th>SHA-256</th></tr>")?;
    for output in outputs {
        let text = |name: &str| output[name].as_str().unwrap_or_default().to_owned();
        writeln!(
            page,
            "<tr><td>{}</td><td><code>{}</code></td></tr>",
            escape(&text("file")),
            in_groups(&text("sha256"))
        )?;
    }
    writeln!(page, "</table>")
}

fn signatures(page: &mut String, verified: &Verified) -> std::fmt::Result {
    writeln!(
        page,
        "<h2>Signatures</h2><p>Each of us was present, saw the steps above happen as they are written here, and compared \
         the digest of the transcript with the screen.</p>\n<table class=\"sign\"><tr><th>Name and part</th><th>Signed by \
         key</th><th>Date</th><th>Signature</th></tr>"
    )?;
    for who in present(&verified.script, &verified.record) {
        let signed = verified
            .record
            .entries
            .iter()
            .find(|entry| entry.kind() == "signature" && entry.get("statement")["participant"] == who.id.as_str());
        let digital = match signed {
            Some(entry) if entry.get("statement")["key_made_for_this_rehearsal"] == true => {
                "a key made for this rehearsal"
            }
            Some(_) => "their own key; it verifies",
            None => "not signed",
        };
        writeln!(
            page,
            "<tr><td>{}<br><span class=\"when\">{}</span></td><td>{digital}</td><td class=\"line\"></td><td \
             class=\"line\"></td></tr>",
            escape(&who.name),
            who.part.name()
        )?;
    }
    writeln!(page, "</table>")
}

fn pair(page: &mut String, name: &str, html: &str) -> std::fmt::Result {
    write!(page, "<dt>{}</dt><dd>{html}</dd>", escape(name))
}

fn label(name: &str) -> String {
    name.replace('_', " ").replace("sha256", "SHA-256")
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A digest as people compare it: groups of eight.
fn in_groups(digest: &str) -> String {
    let groups: Vec<String> = digest
        .as_bytes()
        .chunks(8)
        .map(|group| escape(&String::from_utf8_lossy(group)))
        .collect();
    groups.join(" ")
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            other => escaped.push(other),
        }
    }
    escaped
}
