"""Studies that train no student: label sets, storage, pictures, costs."""
