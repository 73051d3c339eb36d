//! A search over a few texts: a tool for agents.

use std::collections::{HashMap, HashSet};

/// Texts that can be searched.
pub struct Documents {
    texts: Vec<String>,
    /// In how many texts each word is.
    counts: HashMap<String, usize>,
}

impl Documents {
    /// The paragraphs of a text, which blank lines separate.
    pub fn paragraphs(text: &str) -> Documents {
        let texts: Vec<String> = text.split("\n\n").map(|text| text.trim().replace('\n', " ")).collect();
        let mut counts = HashMap::new();
        for word in texts.iter().flat_map(|text| words(text)) {
            *counts.entry(word).or_default() += 1;
        }
        Documents { texts, counts }
    }

    /// The `count` texts that have most in common with a query, best first; none without a word in common. A
    /// word counts by its inverse document frequency as in BM25: nothing when half of the texts have it.
    pub fn search(&self, query: &str, count: usize) -> Vec<&str> {
        let (query, texts) = (words(query), self.texts.len() as f64);
        let weight = |word: &String| {
            let found = self.counts.get(word).map_or(texts, |count| *count as f64);
            ((texts - found + 0.5) / (found + 0.5)).ln().max(0.0)
        };
        let score = |text: &str| query.intersection(&words(text)).map(weight).sum::<f64>();
        let mut scored: Vec<(f64, &str)> =
            self.texts.iter().map(|text| (score(text), text.as_str())).collect();
        scored.retain(|(score, _)| *score > 0.0);
        scored.sort_by(|a, b| b.0.total_cmp(&a.0));
        scored.into_iter().take(count).map(|(_, text)| text).collect()
    }
}

/// The words of a text in small letters, without an `s` at their end.
fn words(text: &str) -> HashSet<String> {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(|word| word.to_lowercase().trim_end_matches('s').to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_with_the_rarest_common_words_are_found() {
        let text =
            "The cat sat\non the mat.\n\nThe dog and the cats.\n\nThe end.\n\nThe beginning.\n\nThe rest.";
        let documents = Documents::paragraphs(text);
        assert_eq!(
            documents.search("the cats on a MAT?", 2),
            ["The cat sat on the mat.", "The dog and the cats."]
        );
        assert_eq!(documents.search("the dog", 2), ["The dog and the cats."]);
        assert!(documents.search("a bird", 1).is_empty() && documents.search("", 1).is_empty());
    }
}
