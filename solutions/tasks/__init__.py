"""The data: one small generator per task, exact, offline, seeded by an explicit torch.Generator; metrics beside."""
