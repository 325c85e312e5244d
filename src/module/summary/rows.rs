//! From recorded calls to the rows of a summary.

use std::collections::{HashMap, HashSet};

use super::{Row, record::Called};
use crate::module::{AnyParam, Module, call::Place, walk};

/// A row to be: a call of a module, or a module without one.
struct Node {
    module: usize,
    call: Option<usize>,
    parent: Option<usize>,
    children: Vec<usize>,
}

/// The modules of a model, the model first, and the nodes for them.
struct Forest<'m> {
    modules: Vec<(String, &'m dyn Module)>,
    by_path: HashMap<String, usize>,
    nodes: Vec<Node>,
    /// The first and the last node of each module.
    ends: Vec<Option<(usize, usize)>>,
    roots: Vec<usize>,
}

impl<'m> Forest<'m> {
    #[inline]
    fn of(model: &'m dyn Module, calls: &mut [Called]) -> Self {
        let mut modules = vec![(String::new(), model)];
        modules.extend(walk::named_modules(model));
        let by_path = modules.iter().enumerate().map(|(i, (path, _))| (path.clone(), i)).collect();
        let mut by_place: HashMap<Place, Vec<usize>> = HashMap::new();
        for (i, (_, module)) in modules.iter().enumerate() {
            by_place.entry(module.place()).or_default().push(i);
        }
        let ends = vec![None; modules.len()];
        let mut forest = Forest { modules, by_path, nodes: Vec::new(), ends, roots: Vec::new() };
        let mut nodes: Vec<Option<usize>> = Vec::new();
        for call in 0..calls.len() {
            let around = calls[call].parent.and_then(|parent| nodes[parent]);
            let node = match by_place.get(&calls[call].place) {
                Some(candidates) => Some(forest.add(forest.called(candidates, around), Some(call))),
                None => {
                    // It is not a part of the model, so it counts to the module around it.
                    if let Some(outer) = around.and_then(|node| forest.nodes[node].call) {
                        calls[outer].multiply_adds += calls[call].multiply_adds;
                    }
                    around
                }
            };
            nodes.push(node);
        }
        for module in 0..forest.modules.len() {
            if forest.ends[module].is_none() {
                let parent = forest.around(module).and_then(|around| forest.ends[around]).map(|(first, _)| first);
                forest.add_to(parent, module, None);
            }
        }
        forest
    }

    /// The module around this one.
    #[inline]
    fn around(&self, module: usize) -> Option<usize> {
        let path = &self.modules[module].0;
        // A name in a map of modules may itself contain dots.
        let mut ends = path.match_indices('.').map(|(dot, _)| dot).rev();
        ends.find_map(|end| self.by_path.get(&path[..end]).copied()).or((module != 0).then_some(0))
    }

    #[inline]
    fn add(&mut self, module: usize, call: Option<usize>) -> usize {
        let parent = self.around(module).map(|around| self.current(around));
        self.add_to(parent, module, call)
    }

    #[inline]
    fn add_to(&mut self, parent: Option<usize>, module: usize, call: Option<usize>) -> usize {
        let node = self.nodes.len();
        self.nodes.push(Node { module, call, parent, children: Vec::new() });
        match parent {
            Some(parent) => self.nodes[parent].children.push(node),
            None => self.roots.push(node),
        }
        self.ends[module].get_or_insert((node, node)).1 = node;
        node
    }

    /// The node of this module inside the last one of what is around it.
    #[inline]
    fn current(&mut self, module: usize) -> usize {
        let parent = self.around(module).map(|around| self.current(around));
        match self.ends[module] {
            Some((_, last)) if self.nodes[last].parent == parent => last,
            _ => self.add_to(parent, module, None),
        }
    }

    /// Of the modules with this identity, the one that a call inside the node `around` is most likely of: one in there, and one
    /// that has not run in it yet.
    #[inline]
    fn called(&self, candidates: &[usize], around: Option<usize>) -> usize {
        let around_of = |&node: &usize| self.nodes[node].parent;
        let is_in = |node| std::iter::successors(Some(node), around_of).any(|node| Some(node) == around);
        let has_run = |module: usize| self.ends[module].is_some_and(|(_, last)| around.is_none() || is_in(last));
        let around = around.map_or("", |node| &self.modules[self.nodes[node].module].0);
        let is_inside = |module: usize| {
            let rest = self.modules[module].0.strip_prefix(around);
            around.is_empty() || rest.is_some_and(|rest| rest.starts_with('.'))
        };
        let order = |module: usize| (is_inside(module), !has_run(module));
        let best = candidates.iter().map(|&module| order(module)).max().expect("there is one");
        let mut equal = candidates.iter().copied().filter(|&module| order(module) == best);
        // Of those that have run, the last one.
        if best.1 { equal.next() } else { equal.next_back() }.expect("there is one")
    }
}

/// The rows, and the sums over them that they do not show.
#[derive(Default)]
pub(super) struct Tree {
    pub rows: Vec<Row>,
    pub pass_bytes: usize,
    pub input_bytes: usize,
    seen: HashSet<Place>,
    /// The addresses of the parameters that were counted.
    counted: HashSet<usize>,
    /// The number of rows of each depth.
    depths: Vec<usize>,
}

impl Tree {
    #[inline]
    pub fn of(model: &dyn Module, mut calls: Vec<Called>) -> Self {
        let forest = Forest::of(model, &mut calls);
        let mut tree = Tree::default();
        for &root in &forest.roots {
            tree.list(&forest, &calls, root, 0);
        }
        tree
    }

    /// Adds the rows of a node and of all inside it.
    #[inline]
    fn list(&mut self, forest: &Forest<'_>, calls: &[Called], node: usize, depth: usize) {
        let Node { module, call, children, .. } = &forest.nodes[node];
        let ((path, module), call) = (&forest.modules[*module], call.map(|call| &calls[call]));
        let own = walk::own_parameters(*module);
        let new: Vec<_> = own.iter().filter(|p| self.counted.insert(p.address())).collect();
        let count = |params: &[&AnyParam]| params.iter().map(|p| p.numel()).sum();
        let trainable: Vec<&AnyParam> = new.iter().copied().filter(|p| p.requires_grad()).collect();
        self.depths.resize(self.depths.len().max(depth + 1), 0);
        self.depths[depth] += 1;
        if let Some(call) = call {
            let is_leaf = walk::children(*module).is_empty();
            self.pass_bytes += if is_leaf && !own.is_empty() { 2 * call.output_bytes } else { 0 };
            self.input_bytes += if depth == 0 { call.input_bytes } else { 0 };
        }
        self.rows.push(Row {
            path: path.clone(),
            type_name: module.type_name(),
            depth,
            index: self.depths[depth],
            ran: call.is_some(),
            recursive: !self.seen.insert(module.place()),
            input: call.map_or(Vec::new(), |call| call.input.clone()),
            output: call.map_or(Vec::new(), |call| call.output.clone()),
            own_parameters: own.iter().map(AnyParam::numel).sum(),
            parameters: count(&new),
            trainable: count(&trainable),
            multiply_adds: call.map_or(0, |call| call.multiply_adds),
        });
        for &child in children {
            self.list(forest, calls, child, depth + 1);
        }
    }
}
