//! The experiments, one file each, and their table.

mod compare;
mod fig10;
mod fig11;
mod fig6;
mod fig7;
mod fig8;
mod fig9;
mod table2;
mod table3;
mod table4;
mod table5;
mod tpot;

use serde_json::Value;

use super::setting::Setting;
use super::table::Table;
use crate::report::chart::Figure;

/// What an experiment found.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Above its tables.
    pub title: String,
    /// For people.
    pub tables: Vec<Table>,
    /// Its figure, where it has one.
    pub figure: Option<Figure>,
    /// What a reader must know beside the figures.
    pub notes: Vec<String>,
    /// Every value.
    pub data: Value,
}

/// An experiment.
#[derive(Clone, Copy, Debug)]
pub struct Experiment {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it shows.
    pub about: &'static str,
    /// Does it.
    pub run: fn(&Setting) -> anyhow::Result<Outcome>,
}

/// All of them, in the paper's order.
pub const TABLE: [Experiment; 10] = [
    Experiment { name: "table2", about: "lines of code and sizes of the programs", run: table2::run },
    Experiment { name: "fig6", about: "agents: latency and throughput", run: fig6::run },
    Experiment { name: "fig7", about: "optimisations of an agent, by the number of agents", run: fig7::run },
    Experiment { name: "fig8", about: "tasks: latency and throughput", run: fig8::run },
    Experiment { name: "fig9", about: "launches at once", run: fig9::run },
    Experiment { name: "fig10", about: "what calls of the API cost", run: fig10::run },
    Experiment { name: "fig11", about: "passes for each token of an answer", run: fig11::run },
    Experiment { name: "table3", about: "where the time of a token goes", run: table3::run },
    Experiment { name: "table4", about: "time per output token by model", run: table4::run },
    Experiment { name: "table5", about: "throughput by batching strategy", run: table5::run },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names = TABLE.map(|experiment| experiment.name);
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
