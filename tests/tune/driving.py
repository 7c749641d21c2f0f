"""A driver of a study whose scores are a function of the candidate, for tests of the search."""

from harness.tune.search.ask_and_tell import open_search


def score(params):
    """(accuracy, FLOPs) of a candidate: later and gentler is better and dearer."""
    deficit = 0.2 * params["tau"] + 0.02 * params["count"] - 0.05 * params["start"]
    cost = 1e9 * (1 + params["start"] + params["length"] / 2 - params["tau"])
    return 0.9 - deficit - 0.01 * (params["moments"] == "reset"), cost


def end(search, study, asked):
    """End a candidate as its number and params say: told, stopped or failed."""
    accuracy, cost = score(asked.params)
    if asked.number == 5:
        search.fail(asked.number, "diverged")
    elif study.goal == "pareto":
        search.tell(asked.number, (accuracy, cost))
    elif accuracy < 0.8:
        search.stop(asked.number, 0.88 - accuracy, "its first seed is far off")
    else:
        search.tell(asked.number, (cost,), 0.88 - accuracy)


def drive(study, url, store, batches=3, order=1):
    """Run some batches to their end, and say all that was asked and how it ended."""
    with open_search(study, url, store) as search:
        for k in range(batches):
            for asked in search.batch(k)[::order]:
                end(search, study, asked)
        asked = [a for k in range(batches) for a in search.batch(k)]
        return [(a, search.state(a.number)) for a in asked]
